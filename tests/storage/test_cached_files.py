import os
from pathlib import Path

import pytest

from spectra.storage.cached_files import CachedFiles


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of 10 bytes, b used before a and c, and one of another kind."""
    for name, used in (("a.json", 2), ("b.json", 1), ("c.json", 3), ("d.txt", 0)):
        (tmp_path / name).write_text("x" * 10)
        os.utime(tmp_path / name, (used, used))
    return tmp_path


@pytest.mark.parametrize(
    ("limit", "left"), [(30, ["a", "b", "c"]), (29, ["a", "c"]), (20, ["a", "c"]), (19, ["c"]), (9, [])]
)
def test_the_files_used_longest_ago_go_until_the_rest_fits(folder: Path, limit: int, left: list[str]) -> None:
    CachedFiles(folder, ".json", limit).evict()
    assert sorted(path.stem for path in folder.glob("*.json")) == left
    assert (folder / "d.txt").exists()


def test_an_absent_folder_has_nothing_to_drop(tmp_path: Path) -> None:
    CachedFiles(tmp_path / "absent", ".json", 0).evict()
    assert not (tmp_path / "absent").exists()


def test_a_folder_that_fails_is_given_up_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = CachedFiles(tmp_path / "kept", ".json", 100)
    with files.writing("a") as path:
        assert path is not None
        raise OSError(28, "No space left on device")
    with files.writing("b") as path:
        assert path is None
    assert files.find("a") is None and "No space left" in caplog.text


def test_a_seal_binds_content_to_its_name(tmp_path: Path) -> None:
    files = CachedFiles(tmp_path, ".json", 100)
    found = files.seal("a", b"content")
    assert files.is_sealed(found, "a", b"content")
    assert not files.is_sealed(found, "b", b"content") and not files.is_sealed(found, "a", b"other")
