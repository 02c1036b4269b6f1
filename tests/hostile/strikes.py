"""Strike a command at the n-th of its changes to files: by kill -9, or by a disk that is full from then on."""

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from spectra.cli.main import main
from spectra.storage.atomic import is_partial

CHANGES = ("os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.truncate")
NEED_NO_ROOM = ("os.remove", "os.rmdir", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Strikes:
    """An audit hook, which Python calls before every opening, making, renaming and removing of a file.

    Attributes:
        folder: Only what happens below it counts; None counts nothing.
        count: Changes so far.
        moment: The change at which it strikes; 0 never.
        kill: Kill the process; otherwise nothing that needs room succeeds from this moment on.
        full: A file that says that the disk is full; written when it strikes, and heeded if another process wrote it.
    """

    def __init__(self) -> None:
        self.folder: str | None = None
        self.count, self.moment, self.kill = 0, 0, False
        self.full: Path | None = None
        sys.addaudithook(self._heard)
        self._fsync = os.fsync
        os.fsync = self._flushed

    @contextmanager
    def at(self, folder: Path, moment: int, *, kill: bool, full: Path | None = None) -> Iterator[None]:
        """Strike while this is open."""
        self.folder, self.count, self.moment, self.kill, self.full = str(folder), 0, moment, kill, full
        try:
            yield
        finally:
            self.folder = None

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.folder is None or (event != "open" and event not in CHANGES):
            return
        if event == "open" and not arguments[2] & WRITES:
            return
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else ""
        if not path or (Path(path).is_absolute() and not path.startswith(self.folder)):
            return
        self._strike(path, needs_room=event not in NEED_NO_ROOM)

    def _flushed(self, descriptor: int) -> None:
        """Where libraries below Python wrote, the first that is seen of it."""
        if self.folder is not None:
            self._strike("", needs_room=True)
        self._fsync(descriptor)

    def _strike(self, path: str, *, needs_room: bool) -> None:
        self.count += 1
        struck = 0 < self.moment <= self.count
        if self.full is not None and struck:
            self.full.touch()
        if not struck and not (self.full is not None and self.full.exists()):
            return
        if self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        if needs_room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path or None)


def run(arguments: list[str]) -> Result:
    return CliRunner().invoke(main, arguments)


def killed(strikes: Strikes, folder: Path, arguments: list[str], moment: int) -> bool:
    """Run a command in a process of its own that is killed at a moment; whether that came before its end."""
    if not (child := os.fork()):
        try:
            with strikes.at(folder, moment, kill=True):
                run(arguments)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder that no killed writer left, with its bytes."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(is_partial(part) for part in path.relative_to(folder).parts)
    }


def partials(folder: Path) -> list[str]:
    """What killed writers left."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*.partial")]
