"""What was kept between calls is believed only if this user wrote it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spectra.scanning.nulls.null_store import NullStore
from spectra.storage import private
from spectra.storage.private import PrivateFolderError, is_sealed, is_usable, require_private, seal


def test_a_seal_binds_every_part_and_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = seal(b"name", b"value")
    assert is_sealed(found, b"name", b"value")
    for parts in ((b"name", b"other"), (b"namev", b"alue"), (b"name",)):
        assert not is_sealed(found, *parts)
    assert not is_sealed(None, b"name", b"value") and not is_sealed("é", b"name", b"value")
    monkeypatch.setenv("SPECTRA_CONFIG", str(tmp_path / "another"))
    assert not is_sealed(found, b"name", b"value")
    assert (tmp_path / "another" / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in (tmp_path / "another").iterdir()] == ["key"]


def test_a_process_killed_while_it_draws_the_key_leaves_nothing_that_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "config"
    monkeypatch.setenv("SPECTRA_CONFIG", str(folder))
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from spectra.storage.private import seal\n"
        "Path.hardlink_to = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "seal(b'x')\n"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == -signal.SIGKILL
    left = list(folder.iterdir())
    assert [one.is_dir() for one in left] == [True] and "key" not in {one.name for one in left}
    (folder / ".key.0123456789ab.partial").write_bytes(b"of an earlier version")
    seal(b"x")
    assert [path.name for path in folder.iterdir()] == ["key"]


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRA_CONFIG", str(tmp_path))
    tmp_path.chmod(0o700)
    (tmp_path / "key").write_bytes(bytes(private.KEY_BYTES))
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(PrivateFolderError, match="Others may read the key"):
        seal(b"x")


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_folder_that_others_may_write_is_not_used_and_is_warned_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    for name in ("factors", "scans"):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
        with pytest.raises(PrivateFolderError, match="Others may write"):
            require_private(tmp_path / name)
        assert not is_usable(tmp_path / name)
    assert caplog.text.count("Nothing is kept in") == 1


def test_a_new_folder_is_this_users_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        require_private(tmp_path / "cache")
    finally:
        os.umask(before)
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_a_forged_control_is_computed_anew(tmp_path: Path) -> None:
    asked = {"simulates": "something"}
    assert NullStore(tmp_path / "nulls").recall(asked, lambda: [1.0]) == [1.0]
    [file] = (tmp_path / "nulls").glob("*.json")
    assert NullStore(tmp_path / "nulls").recall(asked, lambda: [2.0]) == [1.0]
    file.write_text(file.read_text().replace("1.0", "9.0"))
    assert NullStore(tmp_path / "nulls").recall(asked, lambda: [2.0]) == [2.0]
