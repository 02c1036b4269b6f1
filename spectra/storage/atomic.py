"""Writes that are whole or absent: made in a hidden neighbour, forced to the disk, then one rename.

A process killed at any moment leaves either the old file or folder or the new one, and at worst a hidden
`.NAME.<random>.partial` folder beside it. Its writer holds the lock of that folder, so that the next writer of the same
name tells what was abandoned from what is being written, and clears the former.
"""

import contextlib
import ctypes
import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spectra.errors import RunError
from spectra.storage.json_file import read_object

if sys.platform != "win32":
    import fcntl

PARTIAL = ".partial"
NAME = re.compile(rf"\.(?P<name>.+)\.[0-9a-f]{{12}}{re.escape(PARTIAL)}", flags=re.DOTALL)
# What a partial folder keeps the old folder under, where the system cannot exchange two folders in one step.
ASIDE = ".old"
# Of Linux's renameat2: both paths exist and change places in one step.
RENAME_EXCHANGE, AT_FDCWD = 2, -100


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path near `path`; what was written there (a file or a folder) replaces `path` at the end.

    A folder cannot be renamed over a folder that holds files: the two change places, and then the old one is removed.
    """
    if path.is_symlink():
        path = path.resolve()  # the link stays, and what it points to is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    clear_abandoned(path.parent, path.name)
    with partial_folder(path) as folder:
        partial = folder / path.name
        yield partial
        _flush(partial)
        if partial.is_dir() and path.is_dir():
            _exchange(partial, path, folder / ASIDE)
        else:
            partial.replace(path)
        _flush_entry(path.parent)


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """A locked folder beside `path`, removed at the end."""
    while True:
        # Nobody can guess the name and put a symbolic link there.
        folder = path.with_name(f".{path.name}.{secrets.token_hex(6)}{PARTIAL}")
        folder.mkdir()
        with _locked(folder) as mine:
            if mine is False or not folder.is_dir():
                continue  # somebody who clears up was faster than the lock, and removes it
            try:
                yield folder
                return
            finally:
                remove(folder)  # under the lock: nobody else is removing it


@contextmanager
def _locked(folder: Path) -> Iterator[bool | None]:
    """Hold the lock of a folder without waiting: True if held, False if another process holds it, None without locks.

    The system frees the lock when its holder dies, however it dies.
    """
    if sys.platform == "win32":
        yield None
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        yield False  # whoever held it has removed it
        return
    try:
        mine: bool | None = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            mine = False
        except OSError:
            mine = None  # a file system that has none for folders
        yield mine
    finally:
        os.close(descriptor)


def is_partial(name: str) -> bool:
    """Whether an entry of a folder is what a writer left behind or is writing."""
    return NAME.fullmatch(name) is not None


def clear_abandoned(folder: Path, name: str | None = None) -> None:
    """Clear what killed writers left in a folder: of one name, or of all. Writers at work are left alone.

    A folder that one of them had set aside and not yet replaced is put back. What cannot be cleared stays.
    """
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = NAME.fullmatch(entry.name)
            if found and name in (None, found["name"]):
                with contextlib.suppress(OSError):
                    _clear(Path(entry.path), folder / found["name"])


def _clear(partial: Path, path: Path) -> None:
    if not partial.is_dir() or partial.is_symlink():
        partial.unlink()  # of a version whose partial writes were files
        return
    with _locked(partial) as mine:
        if mine:
            if (partial / ASIDE).is_dir() and not path.exists():
                (partial / ASIDE).rename(path)
            remove(partial)


def _exchange(new: Path, old: Path, aside: Path) -> None:
    """Let two folders change places, in one step where the system can."""
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        if rename is not None and not rename(AT_FDCWD, os.fsencode(new), AT_FDCWD, os.fsencode(old), RENAME_EXCHANGE):
            return
    # Two steps: who is killed between them leaves the old folder whole under the third name, from where the next
    # writer puts it back.
    old.rename(aside)
    try:
        new.rename(old)
    except OSError:
        aside.rename(old)
        raise


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
    """Clear what killed writers left anywhere below. Call it only while holding the lock of `folder`."""
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
