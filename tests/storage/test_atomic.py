import json
import os
import signal
import subprocess
import sys
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
