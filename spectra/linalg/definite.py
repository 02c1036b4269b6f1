"""A proof that a tall matrix has no small singular value: a Cholesky factorisation that succeeds."""

import torch

from spectra.linalg.operators import LinearOperator

# Below this size the Gram matrix is formed in float64: it costs little, and the proof reaches further down.
DOUBLE_BELOW = 2048
# Backward error of the Gram matrix and its factorisation, in roundings of the largest eigenvalue.
BACKWARD_ROUNDINGS = 32.0
# A very tall matrix may be proven from this many rows per column: W^H W only grows with further rows. Fewer rows
# than that lower the smallest eigenvalue too much to be worth a try.
FIRST_ROWS = 4


def smallest_eigenvalue_exceeds(W: LinearOperator, floor: float, largest: float) -> bool:
    """True when  lambda_min(W^H W) >= floor  is proven, for a tall W.

    W^H W - floor' I is positive definite exactly when its Cholesky factorisation exists; floor' = floor plus a bound
    on the rounding error. False means "not proven".

    Args:
        W: d_out x d_in with d_out > d_in.
        floor: The eigenvalue (squared singular value) to be exceeded.
        largest: An upper estimate of lambda_max(W^H W), which scales the rounding error.

    Source: Golub & Van Loan, Matrix Computations, 4th ed., section 4.2; rounding after Rump 2006, "Verification of
        positive definiteness".
        Difference: the statistical size of the rounding error is used (BACKWARD_ROUNDINGS), not its worst case.
    Cost: d_in^2 (rows used) + d_in^3 / 3 operations, once per base matrix.
    """
    d_out, d_in = W.shape
    dtype = torch.float64 if d_in <= DOUBLE_BELOW and W.device.type != "mps" else W.dtype
    shift = floor + BACKWARD_ROUNDINGS * torch.finfo(dtype).eps * largest
    gram = torch.zeros(d_in, d_in, dtype=dtype, device=W.device)
    rows_seen, next_try = 0, FIRST_ROWS * d_in
    for rows in W.row_blocks():
        block = rows.to(dtype)
        _add_gram(gram, block)
        rows_seen += rows.shape[0]
        if (next_try <= rows_seen < d_out or rows_seen == d_out) and _is_positive_definite(gram, shift):
            return True
        if rows_seen >= next_try:
            next_try = d_out
    return False


def _add_gram(gram: torch.Tensor, rows: torch.Tensor, panels: int = 12) -> None:
    """gram += rows^H rows, lower block triangle only: the factorisation reads no other part."""
    width = -(-gram.shape[0] // panels)
    for start in range(0, gram.shape[0], width):
        stop = min(start + width, gram.shape[0])
        gram[start:, start:stop].addmm_(rows[:, start:].mH, rows[:, start:stop])


def _is_positive_definite(gram: torch.Tensor, shift: float) -> bool:
    gram.diagonal().sub_(shift)
    positive = int(torch.linalg.cholesky_ex(gram).info) == 0
    gram.diagonal().add_(shift)
    return positive
