"""Distant checkpoints that are open: each is a folder of its small texts and of empty files that stand for the weights.

So everything that looks for files in a folder stays as it is. No byte of a weight is ever written to the disk: a reader
of safetensors asks `stream_of` whether a file stands for a distant one.
"""

import atexit
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

from spectra.errors import CheckpointError
from spectra.weights.streams.far_file import FarFile, Traffic
from spectra.weights.streams.places import Place, address_place, hub_place, is_address, shown_address

AT_ONCE = 8

# By the path of what stands for them.
_files: dict[Path, FarFile] = {}
# What one call has opened; None outside of calls that open a checkpoint more than once.
_opened: ContextVar[dict[tuple[str, str | None], Path] | None] = ContextVar("spectra_streams", default=None)


@contextmanager
def opened_once() -> Iterator[None]:
    """Within it, a distant checkpoint is opened once, at one version; afterwards nothing of it is left."""
    folders: dict[tuple[str, str | None], Path] = {}
    token = _opened.set(folders)
    try:
        yield
    finally:
        _opened.reset(token)
        for folder in folders.values():
            for path in [path for path in _files if path.is_relative_to(folder)]:
                del _files[path]
            shutil.rmtree(folder, ignore_errors=True)


def stream_of(path: Path) -> FarFile | None:
    """The distant file that a path stands for; None for a file on this machine."""
    return _files.get(path)


def open_stream(name: str, revision: str | None = None) -> Path:
    """A folder (or file) that stands for a distant checkpoint.

    Args:
        name: A hub id, or an address such as https://host/folder or s3://bucket/folder.
        revision: Branch, tag or commit of a hub id.

    Raises:
        CheckpointError: If it cannot be reached, or is no checkpoint in safetensors.
    """
    opened = _opened.get()
    folder = None if opened is None else opened.get((name, revision))
    if folder is None:
        place = address_place(name) if is_address(name) else hub_place(name, revision)
        folder = _laid_out(place)
        if place.main is not None:
            folder /= place.main
        if opened is not None:
            opened[name, revision] = folder
    return folder


def read_headers(paths: Iterable[Path]) -> None:
    """Learn size, version and the length of the header of many files at once: they are needed one after the other."""
    files = [file for path in paths if (file := stream_of(path)) is not None]
    if len(files) > 1:
        with ThreadPoolExecutor(AT_ONCE, "spectra-headers") as pool:
            list(pool.map(_read_header, files))


def traffic_of(files: Iterable[FarFile]) -> list[Traffic]:
    """The counts of the places that files lie at, each once."""
    return list({id(file.traffic): file.traffic for file in files}.values())


def shown_name(name: str | Path) -> str:
    """A checkpoint's name as results and messages show it: an address without its secrets."""
    return shown_address(str(name)) if is_address(str(name)) else str(name)


def _read_header(file: FarFile) -> None:
    length = int.from_bytes(file.head(0, min(8, file.size)), "little")
    if length <= min(file.size - 8, 1 << 20):  # of another one it is said later what is wrong with it
        file.head(8, 8 + length)


def _laid_out(place: Place) -> Path:
    """A new folder of the texts and of files that stand for the weights."""
    folder = Path(tempfile.mkdtemp(dir=_root())) / place.shown.replace("://", "/").strip("/")
    folder.mkdir(parents=True)
    for name in place.texts:
        text = place.text(name)
        if text is not None:
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(text)
    for name, file in place.files.items():
        target = folder / name
        target.parent.mkdir(exist_ok=True)
        target.touch()
        _files[target] = file
    return folder


@cache
def _root() -> Path:
    """The folder of this process for what stands for distant files; it goes when the process ends."""
    root = Path(tempfile.mkdtemp(prefix="spectra-stream-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


def no_stream(name: str) -> CheckpointError:
    """The error of a command that needs files and was given an address."""
    return CheckpointError(
        f"'{shown_name(name)}' is an address, and this command needs the files. Download them and give the folder; "
        "scan, intruders, compare and inspect read from an address."
    )
