"""Where the bytes of a file of tensors come from: a local file, or one that is read from afar."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from spectra.errors import CheckpointError

# A place in the file and what is filled from there.
Piece = tuple[int, memoryview]
# First byte of a tensor in the file, and one past its last.
Span = tuple[int, int]


class ByteSource(ABC):
    """A file of a known size that can be read anywhere."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Bytes of the file."""

    @abstractmethod
    def fill(self, pieces: Sequence[Piece], span: Span, name: str) -> None:
        """Fill all pieces, which lie in the span of the tensor `name`, or of one expert of it."""


@dataclass(frozen=True)
class FileState:
    """Size, time of change and identity of a file: what tells that it was replaced or written to."""

    size: int
    modified_ns: int
    inode: int

    @classmethod
    def of(cls, path: Path) -> "FileState":
        """The state of a file now."""
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, status.st_ino)


@dataclass(frozen=True)
class LocalFile(ByteSource):
    """A file on this machine, read with plain reads.

    It is never mapped into memory: a mapped file that shrinks while it is read kills the process with SIGBUS, a plain
    read merely comes back short and becomes one sentence.

    Attributes:
        path: The file.
        state: The file when its header was read.
    """

    path: Path
    state: FileState

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.state.size

    def fill(self, pieces: Sequence[Piece], span: Span, name: str) -> None:
        """Fill all pieces, the file opened once.

        Raises:
            CheckpointError: If the file is gone or has changed.
        """
        with self._opened(name) as stream:
            for offset, buffer in pieces:
                stream.seek(offset)
                self._fill(stream, buffer, name)

    def _opened(self, name: str) -> BinaryIO:
        try:
            if FileState.of(self.path) == self.state:
                return self.path.open("rb", buffering=0)
        except OSError as error:
            raise CheckpointError(
                f"'{self.path}' can no longer be read ({error.strerror}) while reading '{name}'. Run again."
            ) from error
        raise self._changed(name)

    def _fill(self, stream: BinaryIO, buffer: memoryview, name: str) -> None:
        """Read until the buffer is full; a raw stream may return less than it was asked for."""
        filled = 0
        while filled < len(buffer):
            count = stream.readinto(buffer[filled:])  # type: ignore[attr-defined]
            if not count:
                raise self._changed(name)
            filled += count

    def _changed(self, name: str) -> CheckpointError:
        return CheckpointError(
            f"'{self.path}' changed while '{name}' was read from it. Run again once nothing writes to it."
        )
