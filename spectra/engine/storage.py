"""From a matrix in storage to an operator: in memory where it fits the budget, row by row where it does not."""

from functools import partial

import torch

from spectra.linalg.operators import Dense, LinearOperator, RowChunked
from spectra.weights import StoredMatrix

# Blocks of columns, bases and small matrices of a scan, beside W0 itself (measured: `scripts/bench_scan.py`).
WORKSPACE_VECTORS = 1200
SMALLEST_CHUNK_BYTES = 16 << 20


def as_operator(
    matrix: StoredMatrix, *, dtype: torch.dtype, device: torch.device | str, memory_bytes: int | None
) -> LinearOperator:
    """The operator of a stored matrix.

    Args:
        matrix: Where it lies.
        dtype: Arithmetic of the products.
        device: Where they are computed.
        memory_bytes: Budget; None reads the whole matrix.

    Returns:
        `Dense` when the matrix and the workspace fit the budget, else `RowChunked`.
    """
    if memory_bytes is None or dense_bytes(matrix.shape, dtype) <= memory_bytes:
        return Dense(matrix.load(dtype=dtype, device=device))
    d_out, d_in = matrix.shape
    row_bytes = d_in * (dtype.itemsize + matrix.dtype.itemsize)
    spare = memory_bytes - WORKSPACE_VECTORS * min(matrix.shape) * dtype.itemsize
    chunk = max(1, min(d_out, max(spare // 4, SMALLEST_CHUNK_BYTES) // row_bytes))
    rows = partial(matrix.rows, device=device)
    return RowChunked(rows, (d_out, d_in), dtype, torch.device(device), chunk)


def dense_bytes(shape: tuple[int, int], dtype: torch.dtype) -> int:
    """Memory of a scan that holds one dense matrix of this shape."""
    return (shape[0] * shape[1] + WORKSPACE_VECTORS * min(shape)) * dtype.itemsize
