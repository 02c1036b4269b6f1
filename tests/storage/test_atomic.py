import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spectra.errors import RunError
from spectra.storage import atomic


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    atomic.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="JSON compliant"):
        atomic.write_json(path, {"a": float("nan")})
    assert atomic.read_json(path) == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


def test_an_interrupted_folder_write_leaves_the_old_folder(tmp_path: Path) -> None:
    path = tmp_path / "adapter"
    with atomic.replacing(path) as partial:
        partial.mkdir()
        (partial / "old").write_text("1")
    with pytest.raises(KeyboardInterrupt), atomic.replacing(path) as partial:
        partial.mkdir()
        (partial / "new").write_text("2")
        raise KeyboardInterrupt
    assert [entry.name for entry in path.iterdir()] == ["old"]
    assert [entry.name for entry in tmp_path.iterdir()] == ["adapter"]


def test_a_new_folder_replaces_a_full_one(tmp_path: Path) -> None:
    for name in ("old", "new"):
        with atomic.replacing(tmp_path / "adapter") as partial:
            partial.mkdir()
            (partial / name).write_text("1")
    assert [entry.name for entry in (tmp_path / "adapter").iterdir()] == ["new"]


def test_a_broken_json_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text('{"a": ')
    with pytest.raises(RunError, match=r"'.*sweep\.json' is not valid JSON .* Delete it"):
        atomic.read_json(tmp_path / "sweep.json")


WRITER = """
import sys
from pathlib import Path
from spectra.storage import atomic
path, n = Path(sys.argv[1]), 0
while True:
    n += 1
    atomic.write_json(path, {"n": n, "again": [n] * 5000})
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    for pause in (0.0, 0.013, 0.029):
        path.unlink(missing_ok=True)
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
        while not path.exists():
            time.sleep(0.005)
        time.sleep(pause)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        value = json.loads(path.read_text())
        assert value["again"] == [value["n"]] * 5000
    atomic.remove_partials(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["value.json"]


def test_the_next_writer_clears_what_a_killed_one_left_and_leaves_the_others_alone(tmp_path: Path) -> None:
    path = tmp_path / "out"
    (tmp_path / ".out.0123456789ab.partial" / "out").mkdir(parents=True)
    (tmp_path / ".other.0123456789ab.partial").mkdir()
    (tmp_path / ".out.notes.partial").mkdir()  # no name of a writer's
    with atomic.replacing(path) as slow:
        slow.write_text("slow")
        atomic.write_text(path, "fast")
        assert slow.exists()
    assert path.read_text() == "slow"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        ".other.0123456789ab.partial", ".out.notes.partial", "out",
    ]  # fmt: skip
    atomic.clear_abandoned(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [".out.notes.partial", "out"]


def test_a_folder_that_a_killed_writer_had_set_aside_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atomic.sys, "platform", "elsewhere")  # where two folders cannot change places in one step
    path = tmp_path / "adapter"
    for text in ("1", "2"):
        with atomic.replacing(path) as partial:
            partial.mkdir()
            (partial / "weights").write_text(text)
    assert [entry.name for entry in tmp_path.iterdir()] == ["adapter"]
    assert (path / "weights").read_text() == "2"
    killed = tmp_path / ".adapter.0123456789ab.partial"
    killed.mkdir()
    path.rename(killed / atomic.ASIDE)  # and there it was killed
    with pytest.raises(KeyboardInterrupt), atomic.replacing(path):
        raise KeyboardInterrupt
    assert (path / "weights").read_text() == "2"
    assert [entry.name for entry in tmp_path.iterdir()] == ["adapter"]


def test_writers_and_those_who_clear_up_do_not_disturb_one_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the disk would take most of the time
    failures: list[OSError] = []

    def write(number: int) -> None:
        for time_ in range(40):
            try:
                atomic.write_text(tmp_path / f"{number}-{time_ % 3}", "text")
                atomic.clear_abandoned(tmp_path)
            except OSError as error:
                failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(switch)
    assert failures == []
    assert len(list(tmp_path.iterdir())) == 12


def test_a_file_system_without_locks_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    atomic.write_text(tmp_path / "file", "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
