import os
from pathlib import Path

import pytest

from spectra.storage.eviction import evict


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
    evict(folder, "*.json", limit)
    assert sorted(path.stem for path in folder.glob("*.json")) == left
    assert (folder / "d.txt").exists()


def test_an_absent_folder_has_nothing_to_drop(tmp_path: Path) -> None:
    evict(tmp_path / "absent", "*.json", 0)
    assert not (tmp_path / "absent").exists()
