"""One file that is read from afar: its size and version are learnt with the first bytes and held ever after."""

import threading
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from spectra.errors import CheckpointError
from spectra.weights.formats.byte_source import ByteSource, Piece, Span
from spectra.weights.streams.held import HELD

# Headers up to this size are kept: a checkpoint may be opened several times in one call.
KEPT_HEAD_BYTES = 1 << 20
# Tensors up to this size are read whole and kept for a while: scales of quantised weights, rows of adapters.
SMALL_BYTES = 1 << 18


@dataclass(eq=False)
class Traffic:
    """What was read from one place.

    Attributes:
        read_bytes: Bytes of contents that arrived, headers and repetitions included.
        requests: How many requests were made.
        retries: How many of them were made because an earlier one failed.
    """

    read_bytes: int = 0
    requests: int = 0
    retries: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def add(self, *, read_bytes: int = 0, requests: int = 0, retries: int = 0) -> None:
        """Count."""
        with self._lock:
            self.read_bytes += read_bytes
            self.requests += requests
            self.retries += retries


class FarFile(ByteSource):
    """A file that is read by ranges."""

    def __init__(self, shown: Path, traffic: Traffic) -> None:
        """Name the file; nothing is read yet.

        Args:
            shown: What stands for its path in messages and results, without anything secret.
            traffic: Where its bytes are counted.
        """
        self.shown, self.traffic = shown, traffic
        self._known: tuple[int, str] | None = None
        self._head = b""
        self._lock = threading.Lock()

    @property
    def size(self) -> int:
        """Bytes of the file, learnt with its first ones."""
        return self._learnt()[0]

    @property
    def version(self) -> str:
        """What tells this content of the file from another: commit and ETag; "" where nothing tells."""
        return self._learnt()[1]

    def head(self, start: int, stop: int) -> bytes:
        """Bytes of the beginning of the file; short ones are kept."""
        self._learnt()
        if stop > len(self._head):
            more = bytearray(stop - max(start, len(self._head)))
            offset = stop - len(more)
            self.read(offset, memoryview(more), stop)
            if offset != len(self._head) or stop > KEPT_HEAD_BYTES:
                return bytes(more)[start - offset :]
            self._head += bytes(more)
        return self._head[start:stop]

    def fill(self, pieces: Sequence[Piece], span: Span, name: str) -> None:
        """Fill all pieces from the tensor `name`.

        Raises:
            CheckpointError: If the file changed, or cannot be read.
        """
        held = HELD.find(self, span)
        in_one = len(pieces) == 1 and len(pieces[0][1]) == span[1] - span[0]
        if held is None and (len(pieces) > 1 or (in_one and span[1] - span[0] <= SMALL_BYTES)):
            held = HELD.fetch(self, span)
        for offset, buffer in pieces:
            if held is not None:
                held.copy(offset, buffer)
            else:
                self.read(offset, buffer, span[1])

    def _learnt(self) -> tuple[int, str]:
        with self._lock:
            if self._known is None:
                self._head, size, version = self.first(8)
                self._known = size, version
            return self._known

    @abstractmethod
    def first(self, count: int) -> tuple[bytes, int, str]:
        """The first bytes (fewer of a shorter file), the size and the version."""

    @abstractmethod
    def read(self, offset: int, buffer: memoryview, until: int) -> None:
        """Fill a buffer from one place on.

        Args:
            offset: First byte.
            buffer: What is filled.
            until: Where a reader who goes on from here would end.
        """

    def changed(self) -> CheckpointError:
        """The error of a file that is no longer the one whose header was read."""
        return CheckpointError(
            f"'{self.shown}' was replaced while it was read: its version is no longer '{self._learnt()[1]}'. "
            "Run again, with a fixed revision where there is one."
        )
