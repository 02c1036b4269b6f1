"""Ranges of bytes of an object store, through fsspec and the package that knows the store."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from spectra.errors import CheckpointError, needs
from spectra.weights.streams.far_file import FarFile, Traffic

# The stores that are read, and the packages that know them.
PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "memory": "fsspec"}
ATTEMPTS = 4
FIRST_WAIT_SECONDS = 0.5
STEP_BYTES = 1 << 26
# What file systems call that which changes with the content, the surest first.
VERSIONS = ("ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated", "mtime", "created")

T = TypeVar("T")


def store_of(address: str) -> tuple[Any, str]:
    """The file system of an address and the path in it.

    Raises:
        CheckpointError: If the package that knows the store is not installed.
    """
    import fsspec

    scheme = address.partition("://")[0]
    try:
        store, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise CheckpointError(needs(f"'{scheme}://'", PACKAGES[scheme], "remote")) from error
    except ValueError as error:
        raise CheckpointError(f"'{address}' is no address of an object store. Check it.") from error
    return store, str(path)


class StoreFile(FarFile):
    """An object in a store."""

    def __init__(self, store: Any, path: str, shown: Path, traffic: Traffic) -> None:
        """Nothing is asked yet."""
        super().__init__(shown, traffic)
        self.store, self.path = store, path

    def first(self, count: int) -> tuple[bytes, int, str]:
        """The first bytes, the size and the version."""
        size, version = self._state()
        return self._ranged(0, min(count, size)), size, version

    def read(self, offset: int, buffer: memoryview, until: int) -> None:
        """Fill a buffer from one place on; the version is asked for before and after."""
        for start in range(0, len(buffer), STEP_BYTES):
            stop = min(start + STEP_BYTES, len(buffer))
            buffer[start:stop] = self._ranged(offset + start, offset + stop)
        if self._state() != (self.size, self.version):
            raise self.changed()

    def _ranged(self, start: int, stop: int) -> bytes:
        def attempt() -> bytes:
            content: bytes = self.store.cat_file(self.path, start=start, end=stop)
            self.traffic.add(read_bytes=len(content))
            return content

        content = self._persistently(attempt)
        if len(content) != stop - start:
            raise CheckpointError(
                f"'{self.shown}' gives {len(content)} bytes where {stop - start} were asked for. Run again."
            )
        return content

    def _state(self) -> tuple[int, str]:
        def attempt() -> dict[str, Any]:
            self.store.invalidate_cache()
            return dict(self.store.info(self.path))

        told = self._persistently(attempt)
        version = next((str(told[name]) for name in VERSIONS if told.get(name)), "")
        return int(told["size"]), version.strip('"')

    def _persistently(self, attempt: Callable[[], T]) -> T:
        for failures in range(ATTEMPTS):
            self.traffic.add(requests=1, retries=int(failures > 0))
            try:
                return attempt()
            except FileNotFoundError as error:
                raise CheckpointError(f"'{self.shown}' does not exist. Check the address.") from error
            except PermissionError as error:
                raise CheckpointError(f"The store refuses '{self.shown}'. Check that you may read it.") from error
            except (OSError, TimeoutError):
                time.sleep(FIRST_WAIT_SECONDS * 2**failures)
        raise CheckpointError(f"'{self.shown}' could not be read in {ATTEMPTS} attempts. Run again later.")
