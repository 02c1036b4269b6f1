"""Writes that are whole or absent: a temporary neighbour, fsync, then one rename.

A process killed at any moment leaves either the old file or folder or the new one, and at worst a `*.partial`
neighbour, which `remove_partials` clears once the folder's lock is held.
"""

import ctypes
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spectra.errors import RunError
from spectra.storage.json_file import read_object

PARTIAL = ".partial"
# Of Linux's renameat2: both paths exist and change places in one step.
RENAME_EXCHANGE, AT_FDCWD = 2, -100


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there (a file or a folder) replaces `path` at the end.

    A folder cannot be renamed over a folder that holds files: the two change places, and then the old one is removed.
    """
    if path.is_symlink():
        path = path.resolve()  # the link stays, and what it points to is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    # Nobody can guess the name and put a symbolic link there.
    partial = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PARTIAL}")
    try:
        yield partial
        _flush(partial)
        if partial.is_dir() and path.is_dir():
            _exchange(partial, path)
        else:
            partial.replace(path)
        _flush_entry(path.parent)
    finally:
        remove(partial)


def _exchange(new: Path, old: Path) -> None:
    """Let two folders change places, in one step where the system can."""
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if rename is not None and not rename(AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(old), RENAME_EXCHANGE):
            return
    # Two steps: whoever is killed between them finds the old folder whole under the third name.
    aside = old.with_name(f".{old.name}.{secrets.token_hex(6)}.old")
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise
    aside.rename(new)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all; NaN is refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of a run folder.

    Raises:
        RunError: If the file is absent or is no JSON object.
    """
    if not path.exists():
        raise RunError(f"'{path}' is missing. Check that '{path.parent}' is a run folder of `spectra sweep`.")
    return read_object(path, error=RunError, remedy="Delete it and run the sweep again.")


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def remove_partials(folder: Path) -> None:
    """Clear what killed writers left behind. Call it only while holding the lock of `folder`."""
    for partial in list(folder.rglob(f".*{PARTIAL}")):
        remove(partial)


def _flush(path: Path) -> None:
    """Force a file, or every file of a folder, to the disk."""
    for file in [path] if path.is_file() else [inner for inner in path.rglob("*") if inner.is_file()]:
        with file.open("rb") as stream:
            os.fsync(stream.fileno())


def _flush_entry(folder: Path) -> None:
    """Force the renaming itself to the disk, where the system lets a folder be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
