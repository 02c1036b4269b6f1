"""Tensors of distant files that are held in memory as stored, within a bound: read ahead, or read whole once."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from spectra.weights.formats.byte_source import Span

# By default, for tensors that are read before they are needed.
DEFAULT_BYTES = 1 << 30
# Of a memory budget, one part in so many.
MEMORY_SHARE = 16
# Filled at a time, so that a reader who follows waits for little.
STEP_BYTES = 1 << 23


def read_ahead_bytes(memory_bytes: int | None) -> int:
    """What may be held, of the memory that a scan may use."""
    return DEFAULT_BYTES if memory_bytes is None else min(DEFAULT_BYTES, memory_bytes // MEMORY_SHARE)


@runtime_checkable
class Ranged(Protocol):
    """A file of which ranges are read."""

    def read(self, offset: int, buffer: memoryview, until: int) -> None:
        """Fill a buffer from one place on."""


class Block:
    """The bytes of one tensor while they arrive, and afterwards.

    Attributes:
        file: Where they lie.
        span: Which ones.
        ahead: True where a scan has asked for them before it needs them, and will say when it no longer does.
    """

    def __init__(self, file: Ranged, span: Span, *, ahead: bool) -> None:
        """Begin with nothing."""
        self.file, self.span, self.ahead = file, span, ahead
        self._bytes = bytearray()
        self._error: Exception | None = None
        self._filled = 0
        self._dropped = False
        self._arrived = threading.Condition()

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return self.span[1] - self.span[0]

    def fill(self) -> None:
        """Read all of it, in order; whoever waits is told of every step, and of an error."""
        start, stop = self.span
        try:
            self._bytes = bytearray(self.size)
            view = memoryview(self._bytes)
            while self._filled < self.size and not self._dropped:
                end = min(self._filled + STEP_BYTES, self.size)
                self.file.read(start + self._filled, view[self._filled : end], stop)
                with self._arrived:
                    self._filled = end
                    self._arrived.notify_all()
        except Exception as error:  # noqa: BLE001 (handed to whoever reads)
            with self._arrived:
                self._error = error
                self._arrived.notify_all()

    def drop(self) -> None:
        """Read no further: nobody will ask for it."""
        with self._arrived:
            self._dropped = True
            self._arrived.notify_all()

    def copy(self, offset: int, buffer: memoryview) -> None:
        """Wait until some of the bytes are there, and copy them."""
        first = offset - self.span[0]
        last = first + len(buffer)
        with self._arrived:
            self._arrived.wait_for(lambda: self._filled >= last or self._error is not None or self._dropped)
            if self._filled < last and self._error is not None:
                raise self._error
        if self._filled < last:
            self.file.read(offset, buffer, self.span[1])
        else:
            buffer[:] = memoryview(self._bytes)[first:last]


class Held:
    """The blocks that are held, within a bound."""

    def __init__(self, limit_bytes: int = DEFAULT_BYTES) -> None:
        """Hold nothing yet."""
        self.limit_bytes = limit_bytes
        self._blocks: OrderedDict[tuple[int, Span], Block] = OrderedDict()  # the one used longest ago first
        self._lock = threading.Lock()

    @contextmanager
    def within(self, limit_bytes: int) -> Iterator[None]:
        """Hold at most so many bytes for a while."""
        before, self.limit_bytes = self.limit_bytes, limit_bytes
        try:
            yield
        finally:
            self.limit_bytes = before

    def find(self, file: Ranged, span: Span) -> Block | None:
        """The block of a tensor, or None."""
        with self._lock:
            block = self._blocks.get((id(file), span))
            if block is not None:
                self._blocks.move_to_end((id(file), span))
            return block

    def ahead(self, file: Ranged, span: Span) -> bool:
        """Begin to read a tensor in a thread of its own, if it fits beside what is held; True where it is held."""
        with self._lock:
            if (id(file), span) in self._blocks:
                return True
            block = Block(file, span, ahead=True)
            if block.size + sum(other.size for other in self._blocks.values() if other.ahead) > self.limit_bytes:
                return False
            self._blocks[id(file), span] = block
            self._make_room()
        threading.Thread(target=block.fill, name="spectra-read-ahead", daemon=True).start()
        return True

    def fetch(self, file: Ranged, span: Span) -> Block:
        """Read a tensor whole and hold it while there is room."""
        block = Block(file, span, ahead=False)
        block.fill()
        with self._lock:
            self._blocks[id(file), span] = block
            self._make_room()
        return block

    def release(self, file: Ranged, span: Span) -> None:
        """Hold a tensor no longer."""
        with self._lock:
            block = self._blocks.pop((id(file), span), None)
        if block is not None:
            block.drop()

    def _make_room(self) -> None:
        """What nobody has asked for ahead leaves, the one used longest ago first."""
        total = sum(block.size for block in self._blocks.values())
        for key, block in list(self._blocks.items()):
            if total > self.limit_bytes and not block.ahead:
                total -= block.size
                del self._blocks[key]


HELD = Held()
