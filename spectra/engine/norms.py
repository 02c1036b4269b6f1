"""The norm of a matrix that may be read block by block."""

import torch

from spectra.linalg.operators import LinearOperator


def frobenius(W: LinearOperator) -> float:
    """||W||_F: norms of the rows, their squares summed in float64; a float64 copy of W0 would take 50 times longer."""
    squares = (torch.linalg.vector_norm(rows, dim=1).double().pow(2).sum() for rows in W.row_blocks())
    return sum(float(square) for square in squares) ** 0.5
