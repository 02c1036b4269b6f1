"""A full disk, or a kill, at any moment of a write: what was there before is there after, whole."""

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from spectra.cli.main import main
from spectra.storage import atomic
from spectra.storage.destinations import MARKER, whole_folder
from tests.scanning.checkpoints import Checkpoints, save


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


COMMANDS = {
    "mitigate": ("mitigate", "-o", "out", "-k", "4", "--roles", "q_proj"),
    "scan": ("scan", "-o", "out", "-k", "4", "--roles", "q_proj", "--metrics", "intruders,update"),
    "html": ("intruders", "--html", "out", "-k", "4", "--roles", "q_proj"),
    "parquet": ("intruders", "--parquet", "out", "-k", "4", "--roles", "q_proj"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_leaves_the_old_result(
    saved: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    command, *options = COMMANDS[name]
    arguments = [command, str(saved.adapters[1]), *options, "-q"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    before = contents(work)
    flush = atomic._flush

    def no_room(path: Path) -> None:
        if path.absolute().parent.parent == work:  # in the hidden folder beside the destination
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        flush(path)

    monkeypatch.setattr(atomic, "_flush", no_room)
    result = CliRunner().invoke(main, [*arguments, "--force"])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert "No space left on device. Make room, or write elsewhere." in result.stderr
    assert contents(work) == before


def test_no_room_in_the_cache_costs_no_scan(
    saved: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "file" / "cache"))
    for command in ("intruders", "scan"):
        result = CliRunner().invoke(main, [command, str(saved.adapters[1]), "-k", "4", "--roles", "q_proj", "-q"])
        assert result.exit_code == 0, result.output


WRITER = """
import sys
from pathlib import Path
from spectra.storage.destinations import whole_folder
number = 0
while True:
    number += 1
    with whole_folder(Path(sys.argv[1]), "adapter", force=True) as partial:
        for name in "abcdef":
            (partial / name).write_text(str(number) * 2000)
"""


def test_a_kill_at_any_moment_leaves_a_whole_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with whole_folder(out, "adapter") as partial:
        for name in "abcdef":
            (partial / name).write_text("0" * 2000)
    drawn = random.Random(0)
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(out)])
    while (out / "a").read_text()[0] == "0":
        time.sleep(0.01)
    for _ in range(5):
        time.sleep(drawn.uniform(0, 0.05))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert sorted(path.name for path in out.iterdir()) == [MARKER, *"abcdef"]
        assert len({(out / name).read_text() for name in "abcdef"}) == 1
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(out)])
        time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
