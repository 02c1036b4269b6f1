"""From a matrix in storage to an operator: in memory where it fits the budget, row by row where it does not."""

import ctypes
import platform
import sys
from dataclasses import dataclass, field
from functools import cache

import torch

from spectra.engine.row_reader import HeldRows, RowReader
from spectra.linalg.operators import Dense, LinearOperator, RowChunked
from spectra.weights import StoredMatrix
from spectra.weights.streams.held import read_ahead_bytes

# Blocks of columns, bases and small matrices of a scan, beside W0 itself (measured: `scripts/bench_scan.py`).
WORKSPACE_VECTORS = 1200
# Columns as long as the longer side that a pass holds: products, their blocks and what an update adds to them.
LONG_VECTORS = 150
SMALLEST_CHUNK_BYTES = 16 << 20
LARGEST_CHUNK_BYTES = 32 << 20
# What a process holds before it has read anything: the interpreter, torch and the other packages.
PROCESS_BYTES = 320 << 20

# The number of the parameter in <malloc.h>, and the size from which blocks are the system's.
M_MMAP_THRESHOLD = -3
LARGE_BLOCK = 1 << 20


@dataclass
class Budget:
    """The memory of one group of matrices.

    Attributes:
        memory_bytes: Resident memory of the whole process; None for no limit.
        matrices: How many matrices of their own are held at once: W0, and a W_tuned that is no update of it.
    """

    memory_bytes: int | None = None
    matrices: int = 1
    _held: HeldRows | None = field(default=None, init=False)

    @property
    def for_matrices(self) -> int:
        """Bytes that matrices and what is computed with them may take; at least a quarter of a small budget."""
        total = self.memory_bytes or 0
        return max(total - PROCESS_BYTES - read_ahead_bytes(total), total // 4)

    def fits(self, shape: tuple[int, int], dtype: torch.dtype) -> bool:
        """True where a dense matrix of this shape may be held beside the others."""
        return self.memory_bytes is None or dense_bytes(shape, dtype) <= self.for_matrices // self.matrices

    def chunk_rows(self, matrix: StoredMatrix, dtype: torch.dtype) -> int:
        """Rows that are read and converted at a time."""
        spare = self.for_matrices - workspace_bytes(matrix.shape, dtype)
        size = min(max(spare // 8, SMALLEST_CHUNK_BYTES), LARGEST_CHUNK_BYTES)
        return max(1, min(matrix.shape[0], size // (matrix.shape[1] * (dtype.itemsize + matrix.dtype.itemsize))))

    def held_rows(self, matrix: StoredMatrix, dtype: torch.dtype) -> HeldRows:
        """Where rows of all matrices are held as stored, in what neither the computation nor its blocks take."""
        if self._held is None:
            rows = self.chunk_rows(matrix, dtype)
            chunk = 3 * rows * matrix.shape[1] * (dtype.itemsize + matrix.dtype.itemsize)  # computed, ahead, freed
            self._held = HeldRows(self.for_matrices - workspace_bytes(matrix.shape, dtype) - chunk)
        return self._held


def as_operator(
    matrix: StoredMatrix,
    *,
    dtype: torch.dtype,
    device: torch.device | str,
    budget: Budget | None = None,
) -> LinearOperator:
    """The operator of a stored matrix.

    Args:
        matrix: Where it lies.
        dtype: Arithmetic of the products.
        device: Where they are computed.
        budget: What it may take, shared with other matrices; None reads the whole matrix.

    Returns:
        `Dense` when the matrix and the workspace fit the budget, else `RowChunked`.
    """
    budget = budget or Budget()
    if budget.memory_bytes is not None:
        _return_large_blocks()
    if budget.fits(matrix.shape, dtype):
        return Dense(matrix.load(dtype=dtype, device=device))
    reader = RowReader(matrix, budget.held_rows(matrix, dtype), device)
    rows = budget.chunk_rows(matrix, dtype)
    return RowChunked(reader, matrix.shape, dtype, torch.device(device), rows, reader.make_room)


@cache
def _return_large_blocks() -> None:
    """Have glibc give blocks of a megabyte and more back to the system as soon as they are free.

    By default it keeps freed blocks of up to 32 MB for later, per thread and in pieces: a scan within 800 MiB took 910,
    and 1,700 where a thread read ahead. Elsewhere than on Linux nothing is done.
    """
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)


def reads_of(W: LinearOperator | None) -> float | None:
    """How often the file of an operator was read, from its bytes; None where the matrix is held in memory."""
    reader = getattr(W, "read_rows", None)
    return reader.reads if isinstance(reader, RowReader) else None


def dense_bytes(shape: tuple[int, int], dtype: torch.dtype) -> int:
    """Memory of a scan that holds one dense matrix of this shape."""
    return shape[0] * shape[1] * dtype.itemsize + workspace_bytes(shape, dtype)


def workspace_bytes(shape: tuple[int, int], dtype: torch.dtype) -> int:
    """Memory of a scan beside the matrix."""
    return (WORKSPACE_VECTORS * min(shape) + LONG_VECTORS * max(shape)) * dtype.itemsize
