"""Reading files that others made: only regular ones, and never more of them than is asked for.

A FIFO that is called model.safetensors holds a reader for ever, /dev/zero never ends, and what a link to /proc/kmsg
reads comes when the kernel says something: all are refused before they are opened for reading.
"""

import os
import stat
from pathlib import Path
from typing import BinaryIO

from spectra.errors import SpectraError


def require_regular(path: Path, error: type[SpectraError]) -> None:
    """Refuse what is neither a regular file nor absent; symbolic links are followed.

    Raises:
        SpectraError: Of the kind `error`, if a folder, a FIFO, a socket or a device stands there.
    """
    try:
        state = path.stat()
    except OSError:
        return  # opening it says why
    if not stat.S_ISREG(state.st_mode):
        raise error(f"'{path}' is {_word(state.st_mode)} and no regular file. Check the path.")
    if state.st_size == 0 and path.resolve().is_relative_to("/proc"):
        raise error(f"'{path}' points to '{path.resolve()}' and no regular file. Check the path.")


def require_regular_entries(folder: Path, error: type[SpectraError]) -> None:
    """Refuse a folder with FIFOs, sockets or devices directly in it: other libraries would open them.

    Raises:
        SpectraError: Of the kind `error`.
    """
    for entry in folder.iterdir():
        if not entry.is_dir():
            require_regular(entry, error)


def open_regular(path: Path, error: type[SpectraError]) -> BinaryIO:
    """Open a regular file for reading, unbuffered.

    Raises:
        SpectraError: Of the kind `error`, if it is no regular file.
        OSError: If it cannot be opened.
    """
    require_regular(path, error)
    # Without waiting: the file may have become a FIFO since it was looked at.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    stream = os.fdopen(descriptor, "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        stream.close()
        raise error(f"'{path}' is no regular file. Check the path.")
    return stream


def read_regular(path: Path, limit_bytes: int, error: type[SpectraError]) -> bytes:
    """The content of a regular file of a bounded size.

    Raises:
        SpectraError: Of the kind `error`, if it is no regular file, cannot be read or is larger.
    """
    try:
        with open_regular(path, error) as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > limit_bytes:
                raise error(f"'{path}' has {size} bytes, more than the {limit_bytes} that are read. Check the path.")
            return (stream.read(limit_bytes + 1) or b"")[:limit_bytes]
    except OSError as cause:
        raise error(f"'{path}' cannot be read ({cause.strerror}). Check the path and its permissions.") from cause


def _word(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
