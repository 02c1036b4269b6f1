"""Locks between processes. The operating system frees them when their holder dies, however it dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold the lock file if it is free; yields whether it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file, waiting for it as long as it takes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path):
        yield


def is_locked(path: Path) -> bool:
    """Whether another process holds the lock file now."""
    if not path.exists():
        return False
    with try_lock(path) as free:
        return not free
