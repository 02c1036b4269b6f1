"""A matrix where it lies in storage: always (d_out, d_in), read on demand, in whole or by rows.

A matrix is a sequence of row blocks of stored tensors. That one idea covers a plain weight (one block), a Conv1D
weight (its rows are columns of the tensor), one expert of a 3-D tensor, the queries inside a fused qkv weight (one
or many blocks) and a gate_up matrix whose halves are stored apart (two blocks of two tensors).
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import CheckpointError

# Bytes that are read, checked and converted at a time.
CHUNK_BYTES = 1 << 22


@runtime_checkable
class StoredTensor(Protocol):
    """A tensor of a file, whatever the file's format."""

    @property
    def name(self) -> str:
        """Name in the file."""

    @property
    def path(self) -> Path:
        """The file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as stored."""

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of what the reads return."""

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""

    def read(self) -> Tensor:
        """The whole tensor."""

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Rows along the first axis, of one expert where the first axis counts experts."""

    def read_columns(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Columns of a matrix."""


@runtime_checkable
class ReadInPart(Protocol):
    """A stored tensor of which a few numbers can be read alone."""

    def read_numbers(self, first: int, count: int) -> Tensor:
        """Some numbers in the order of the file."""

    def content_key(self) -> str:
        """What tells the content of the tensor without reading it; "" where nothing does."""


@dataclass(frozen=True)
class RowBlock:
    """Rows start, start + step, ... before stop of one stored matrix, seen as (d_out, d_in).

    Attributes:
        tensor: Where they lie.
        start: First row.
        stop: One past the last row.
        expert: Index along the first axis of a 3-D tensor.
        transposed: True when the tensor is stored (d_in, d_out), as GPT-2's Conv1D does.
        step: 1 for consecutive rows; 2 for the gates alone where gates and ups alternate.
    """

    tensor: StoredTensor
    start: int
    stop: int
    expert: int | None = None
    transposed: bool = False
    step: int = 1

    @classmethod
    def whole(cls, tensor: StoredTensor, *, expert: int | None = None, transposed: bool = False) -> "RowBlock":
        """All rows of a tensor; trailing axes of a convolution are flattened into d_in."""
        shape = tensor.shape if expert is None else tensor.shape[1:]
        return cls(tensor, 0, shape[1] if transposed else shape[0], expert, transposed)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(range(self.start, self.stop, self.step))

    @property
    def d_in(self) -> int:
        """Columns of the matrix."""
        shape = self.tensor.shape if self.expert is None else self.tensor.shape[1:]
        return shape[0] if self.transposed else math.prod(shape[1:])

    def read(self, start: int, stop: int) -> Tensor:
        """Rows [start, stop) counted from the block's first row."""
        piece = self.piece(start, stop)
        if self.transposed:
            return self.tensor.read_columns(piece.start, piece.stop, self.expert).mT[:: self.step]
        rows = self.tensor.read_rows(piece.start, piece.stop, self.expert)[:: self.step]
        return rows.reshape(stop - start, -1)

    def piece(self, start: int, stop: int, step: int = 1) -> "RowBlock":
        """Rows start, start + step, ... before stop, counted from the block's first row."""
        chosen = range(self.start, self.stop, self.step)[start:stop:step]
        return replace(self, start=chosen.start, stop=chosen[-1] + 1 if chosen else chosen.start, step=chosen.step)


@dataclass(eq=False)
class StoredMatrix:
    """A (d_out, d_in) matrix in storage.

    Attributes:
        blocks: The row blocks that make it up, from the first row to the last.
        rounded: A coarser dtype that every read is rounded to first, so that two checkpoints saved in different
            dtypes are compared on the same grid.
    """

    blocks: tuple[RowBlock, ...]
    rounded: torch.dtype | None = None
    _digest: str | None = field(default=None, init=False, repr=False)
    _finite: bool = field(default=False, init=False, repr=False)

    @classmethod
    def of(cls, tensor: StoredTensor, *, expert: int | None = None, transposed: bool = False) -> "StoredMatrix":
        """The matrix that one tensor, or one expert of it, holds."""
        return cls((RowBlock.whole(tensor, expert=expert, transposed=transposed),))

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return sum(block.rows for block in self.blocks), self.blocks[0].d_in

    @property
    def stored_dtype(self) -> torch.dtype:
        """Dtype in the file."""
        return self.blocks[0].tensor.dtype

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the rows: that of the file, or the coarser one they are rounded to."""
        return self.rounded or self.stored_dtype

    @property
    def nbytes(self) -> int:
        """Bytes of this matrix in the file."""
        elements = self.shape[0] * self.shape[1]
        tensor = self.blocks[0].tensor
        return elements * tensor.nbytes // max(1, torch.Size(tensor.shape).numel())

    @property
    def source(self) -> str:
        """File and tensor, for messages."""
        names = dict.fromkeys(f"'{block.tensor.name}'" for block in self.blocks)
        return f"{' and '.join(names)} in '{self.blocks[0].tensor.path}'"

    def rounded_to(self, dtype: torch.dtype) -> "StoredMatrix":
        """The same matrix on a coarser grid."""
        return self if dtype == self.dtype else StoredMatrix(self.blocks, dtype)

    def take(self, ranges: tuple[tuple[int, int], ...]) -> "StoredMatrix":
        """The matrix made of some ranges of rows, in that order."""
        blocks = tuple(piece for start, stop in ranges for piece in self._pieces(start, stop))
        return StoredMatrix(blocks, self.rounded)

    def every(self, first: int, step: int) -> "StoredMatrix":
        """Rows first, first + step, first + 2 step, ... of a matrix that is one block."""
        (block,) = self.blocks
        return StoredMatrix((block.piece(first, block.rows, step),), self.rounded)

    def rows(self, start: int, stop: int, device: torch.device | str = "cpu") -> Float[Tensor, "n d_in"]:
        """Rows [start, stop) in storage dtype, read from the file for just those rows, and moved as they are stored.

        Raises:
            CheckpointError: If a row holds NaN or infinity, or the file changed.
        """
        read = [piece.read(0, piece.rows) for piece in self._pieces(start, stop)]
        rows = read[0] if len(read) == 1 else torch.cat([torch.empty(0, self.shape[1], dtype=self.stored_dtype), *read])
        rows = rows.to(device)
        if self.rounded is not None:
            rows = rows.to(self.rounded)
        if not self._finite:
            self._require_finite(rows)
        return rows

    def first(self, count: int) -> Float[Tensor, " n"]:
        """The first numbers of the first row, in storage dtype; a file is read for no others where it can be.

        Raises:
            CheckpointError: If one of them is NaN or infinity, or the file changed.
        """
        block = self.blocks[0]
        if block.transposed or self.rounded is not None or not isinstance(block.tensor, ReadInPart):
            return self.rows(0, 1)[0, :count]
        d_in = self.shape[1]
        rows = math.prod(block.tensor.shape[1:]) // d_in if block.expert is not None else 0
        numbers = block.tensor.read_numbers(((block.expert or 0) * rows + block.start) * d_in, min(count, d_in))
        self._require_finite(numbers)
        return numbers

    def load(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "d_out d_in"]:
        """The whole matrix, fresh and contiguous; beside it, only a chunk in storage dtype is held.

        Raises:
            CheckpointError: If it holds NaN or infinity, or the file changed.
        """
        whole = torch.empty(self.shape, dtype=dtype, device=device)
        for start, rows in self.chunks(device):
            whole[start : start + len(rows)].copy_(rows)
        return whole

    def chunks(self, device: torch.device | str = "cpu") -> Iterator[tuple[int, Float[Tensor, "n d_in"]]]:
        """All rows in storage dtype, some at a time, with the number of the first.

        Raises:
            CheckpointError: If a row holds NaN or infinity, or the file changed.
        """
        d_out, d_in = self.shape
        step = max(1, CHUNK_BYTES // max(1, d_in * self.dtype.itemsize))
        for start in range(0, d_out, step):
            yield start, self.rows(start, min(start + step, d_out), device)
        self._finite = True

    def digest(self, *, read: bool = False) -> str:
        """sha256 of the bytes, row by row, with dtype and shape: two matrices with one digest are the same.

        Where the file is read from afar and its version tells its content, the version stands for the bytes, unless
        they are to be read.
        """
        if not read and (key := self._content_key()):
            return hashlib.sha256(f"{self.dtype} {self.shape} {key}".encode()).hexdigest()
        if self._digest is None:
            sha = hashlib.sha256(f"{self.dtype} {self.shape}".encode())
            for _, rows in self.chunks():
                sha.update(rows.contiguous().view(torch.uint8).numpy().data)
            self._digest = sha.hexdigest()
        return self._digest

    def _content_key(self) -> str:
        """What tells the content without reading it; "" where nothing does."""
        keys = [block.tensor.content_key() if isinstance(block.tensor, ReadInPart) else "" for block in self.blocks]
        places = [(block.start, block.stop, block.step, block.expert, block.transposed) for block in self.blocks]
        return f"{keys} {places}" if all(keys) else ""

    def _pieces(self, start: int, stop: int) -> Iterator[RowBlock]:
        """The parts of the blocks that cover rows [start, stop)."""
        if not 0 <= start <= stop <= self.shape[0]:
            raise ValueError(f"rows {start} to {stop} of a matrix with {self.shape[0]} rows")
        first = 0
        for block in self.blocks:
            begin, end = max(start - first, 0), min(stop - first, block.rows)
            if begin < end:
                yield block.piece(begin, end)
            first += block.rows

    def _require_finite(self, rows: Tensor) -> None:
        if rows.is_floating_point() and not rows.isfinite().all():
            nan, infinite = int(rows.isnan().sum()), int(rows.isinf().sum())
            raise CheckpointError(
                f"{self.source} holds {nan} NaN and {infinite} infinite values. "
                "Restore the checkpoint from before training diverged, or train again with a lower learning rate."
            )
