"""Writes that are whole or absent: a temporary neighbour, fsync, then one rename.

A process killed at any moment leaves either the old file or the new one, and at worst a `*.partial` neighbour,
which `remove_partials` clears once the folder's lock is held.
"""

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.errors import RunError

if TYPE_CHECKING:
    import pandas as pd

PARTIAL = ".partial"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what was written there (a file or a folder) replaces `path` at the end.

    A folder cannot be renamed over a folder that holds files, so an old one is removed first; readers of a run
    never open a folder without its marker file, which is written later still.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    remove(partial)
    try:
        yield partial
        _flush(partial)
        if partial.is_dir():
            remove(path)
        partial.replace(path)
        _flush_entry(path.parent)
    finally:
        remove(partial)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object whole or not at all; NaN is refused, because JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        RunError: If the file is absent or is no JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunError(
            f"'{path}' is missing. Check that '{path.parent}' is a run folder of `spectra sweep`."
        ) from error
    except ValueError as error:
        raise RunError(f"'{path}' is not valid JSON ({error}). Delete it and run the sweep again.") from error
    if not isinstance(value, dict):
        raise RunError(f"'{path}' holds a {type(value).__name__}, not an object. Delete it and run the sweep again.")
    return value


def write_parquet(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as Parquet, whole or not at all."""
    with replacing(path) as partial:
        table.to_parquet(partial, index=False)


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV, whole or not at all; floats keep 17 digits where they need them."""
    with replacing(path) as partial:
        table.to_csv(partial, index=False)


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
