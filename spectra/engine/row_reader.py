"""Rows of a matrix that does not fit the memory: some are held as stored, the others are read again in every pass.

A pass reads all rows from the first to the last. What is held are therefore the first rows, and they stay:
whoever lets go of the rows used longest ago lets go of exactly those that come next.
"""

from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from spectra.weights import StoredMatrix
from spectra.weights.streams.plan import is_far


class HeldRows:
    """Memory for rows of several matrices, of which the one that is passed over again and again has all of it."""

    def __init__(self, limit_bytes: int) -> None:
        """Hold nothing yet."""
        self.limit_bytes = max(0, limit_bytes)
        self._readers: list[RowReader] = []
        self._last: RowReader | None = None

    def join(self, reader: "RowReader") -> None:
        """A further matrix."""
        self._readers.append(reader)

    def begins(self, reader: "RowReader") -> None:
        """A reader begins a pass; the second one in a row, with no other's in between, takes the rows of the others."""
        if self._last is reader:
            for other in self._readers:
                if other is not reader:
                    other.let_go(other.held_bytes)
        self._last = reader

    def has_room(self, nbytes: int) -> bool:
        """True where so many bytes more may be held."""
        return sum(reader.held_bytes for reader in self._readers) + nbytes <= self.limit_bytes

    def make_room(self, nbytes: int) -> None:
        """Let go of rows until so many bytes are free, and hold no more than that from now on."""
        self.limit_bytes = max(0, self.limit_bytes - nbytes)
        for reader in self._readers:
            excess = sum(each.held_bytes for each in self._readers) - self.limit_bytes
            if excess > 0:
                reader.let_go(excess)


class RowReader:
    """Reads rows of a matrix, holds some, counts what is read, and reads the next block ahead from a distant file."""

    def __init__(self, matrix: StoredMatrix, held: HeldRows, device: torch.device | str = "cpu") -> None:
        """Nothing is read yet.

        Args:
            matrix: Where it lies.
            held: Where its rows are held.
            device: Where they are used.
        """
        self.matrix, self.held, self.device = matrix, held, device
        self.read_bytes = self.held_bytes = 0
        self._rows: dict[tuple[int, int], Tensor] = {}
        self._ahead: tuple[tuple[int, int], Future[Tensor]] | None = None
        # One thread, so that it goes on with the connection that it has.
        self._thread = ThreadPoolExecutor(1, "spectra-rows") if is_far(matrix) else None
        held.join(self)

    @property
    def reads(self) -> float:
        """How often the matrix was read: its bytes that were read over those that it has."""
        return self.read_bytes / max(1, self._bytes(self.matrix.shape[0]))

    def __call__(self, start: int, stop: int) -> Tensor:
        """Rows [start, stop), in storage dtype."""
        key = start, stop
        if start == 0 and stop > 1:
            self.held.begins(self)
        rows = self._rows.get(key)
        if rows is None:
            rows = self._read(key)
            nbytes = rows.numel() * rows.element_size()
            if stop - start > 1 and self.held.has_room(nbytes):
                self._rows[key] = rows
                self.held_bytes += nbytes
        if self._thread is not None and stop - start > 1:
            self._read_ahead(stop, min(2 * stop - start, self.matrix.shape[0]))
        return rows

    def make_room(self, nbytes: int) -> None:
        """Let go of rows, this matrix's or others', until so many bytes are free beside what is held."""
        self.held.make_room(nbytes)

    def let_go(self, nbytes: int) -> None:
        """Let go of at least so many bytes, the last rows first."""
        for key in sorted(self._rows, reverse=True):
            if nbytes <= 0:
                break
            rows = self._rows.pop(key)
            freed = rows.numel() * rows.element_size()
            self.held_bytes -= freed
            nbytes -= freed

    def _read(self, key: tuple[int, int]) -> Tensor:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead[0] == key:
            return ahead[1].result()
        self.read_bytes += self._bytes(key[1] - key[0])
        if self._thread is None:
            return self.matrix.rows(*key, self.device)
        return self._thread.submit(self.matrix.rows, *key, self.device).result()

    def _read_ahead(self, start: int, stop: int) -> None:
        key = start, stop
        if start < stop and key not in self._rows and self._thread is not None and self._ahead is None:
            self.read_bytes += self._bytes(stop - start)
            self._ahead = key, self._thread.submit(self.matrix.rows, start, stop, self.device)

    def _bytes(self, rows: int) -> int:
        return rows * self.matrix.shape[1] * self.matrix.stored_dtype.itemsize
