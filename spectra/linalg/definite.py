"""A proof that a tall matrix has no small singular value: a Cholesky factorisation that succeeds."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.operators import Dense, LinearOperator, RowChunked

# Backward error of the Gram matrix and its factorisation, in roundings of the largest eigenvalue.
BACKWARD_ROUNDINGS = 32.0
# Rows per column after which a proof is tried: W^H W only grows with further rows, so a part of them may suffice.
# Fewer lower the smallest eigenvalue too much (a square block of a random matrix has one near zero), and a try that
# fails costs d_in^3 / 3, so that there are few.
TRIES = (1.25, 2.0)
# Below this many columns a finer split of the half Gram matrix costs more in small products than it saves; on a GPU
# one product and one factorisation are best, with one synchronisation for all.
LEAF_COLUMNS = 256


def smallest_eigenvalue_exceeds(W: LinearOperator, floor: float, largest: float) -> bool:
    """True when  lambda_min(W^H W) >= floor  is proven, for a tall W.

    W^H W - floor' I is positive definite exactly when its Cholesky factorisation exists; floor' = floor plus a bound
    on the rounding error. For any set of rows R, W^H W - W_R^H W_R is positive semidefinite: what holds for a part of
    the rows holds for all of them. False means "not proven".

    Args:
        W: d_out x d_in with d_out > d_in.
        floor: The eigenvalue (squared singular value) to be exceeded.
        largest: An upper estimate of lambda_max(W^H W), which scales the rounding error.

    Source: Golub & Van Loan, Matrix Computations, 4th ed., section 4.2; rounding after Rump 2006, "Verification of
        positive definiteness".
        Difference: the statistical size of the rounding error is used (BACKWARD_ROUNDINGS), not its worst case; rows
        are taken until the proof succeeds.
    Memory: one d_in x d_in matrix.
    Cost: d_in^2 (rows used) + d_in^3 / 3 operations per try, once per base matrix: 1.6 d_in^3 when the first succeeds.
    """
    d_out, d_in = W.shape
    shift = floor + BACKWARD_ROUNDINGS * torch.finfo(W.dtype).eps * largest
    if isinstance(W, RowChunked):
        W.make_room(d_in * d_in * W.dtype.itemsize)
    gram = torch.zeros(d_in, d_in, dtype=W.dtype, device=W.device)
    tries = sorted({min(int(factor * d_in), d_out) for factor in TRIES} | {d_out})
    rows_seen = 0
    for rows in _spread_rows(W):
        remaining = rows
        while remaining.shape[0]:
            part = remaining[: tries[0] - rows_seen]
            remaining = remaining[part.shape[0] :]
            _add_gram(gram, part)
            rows_seen += part.shape[0]
            if rows_seen == tries[0]:
                tries.pop(0)
                if _is_positive_definite(gram, shift):
                    return True
    return False


def _spread_rows(W: LinearOperator) -> Iterator[Float[Tensor, "rows d_in"]]:
    """Blocks of rows; of a matrix in memory every i-th row, since neighbours may belong together (a fused layer)."""
    if not isinstance(W, Dense):
        yield from W.row_blocks()
        return
    count = -(-W.shape[0] // max(W.shape[1] // 2, 1))
    for first in range(count):
        yield W.W[first::count]


def _add_gram(gram: Float[Tensor, "n n"], rows: Float[Tensor, "rows n"], sign: float = 1.0) -> None:
    """gram += sign * rows^H rows below the diagonal: the factorisation reads no other part.

    The square below the diagonal is one product, the two triangles beside it are halved again.
    """
    n = gram.shape[0]
    if n <= LEAF_COLUMNS or gram.device.type != "cpu":
        gram.addmm_(rows.mH, rows, alpha=sign)
        return
    half = n // 2
    gram[half:, :half].addmm_(rows[:, half:].mH, rows[:, :half], alpha=sign)
    _add_gram(gram[:half, :half], rows[:, :half], sign)
    _add_gram(gram[half:, half:], rows[:, half:], sign)


def _is_positive_definite(gram: Float[Tensor, "n n"], shift: float) -> bool:
    """True where the lower triangle of  gram - shift  has a Cholesky factorisation.

    The factor is written into the upper triangle, which nothing else uses, so that no second matrix of this size is
    held; the squares on the diagonal, which both need, are put back.
    """
    leaves = [(leaf, leaf.clone()) for leaf in _leaves(gram)]
    factor = gram.mH
    _copy_below(gram, factor)
    factor.diagonal().sub_(shift)
    found = _factorised(factor)
    for leaf, before in leaves:
        leaf.copy_(before)
    return found


def _leaves(A: Float[Tensor, "n n"]) -> Iterator[Float[Tensor, "leaf leaf"]]:
    """The squares on the diagonal that are halved no further, as views."""
    half = A.shape[0] // 2
    if A.shape[0] <= LEAF_COLUMNS:
        yield A
    else:
        yield from _leaves(A[:half, :half])
        yield from _leaves(A[half:, half:])


def _copy_below(source: Float[Tensor, "n n"], target: Float[Tensor, "n n"]) -> None:
    """Copy what lies below the squares on the diagonal."""
    half = source.shape[0] // 2
    if source.shape[0] > LEAF_COLUMNS:
        target[half:, :half].copy_(source[half:, :half])
        _copy_below(source[:half, :half], target[:half, :half])
        _copy_below(source[half:, half:], target[half:, half:])


def _factorised(A: Float[Tensor, "n n"]) -> bool:
    """Write the Cholesky factor of A over its lower triangle, by halves; False where there is none.

    At n = 4096 nearly all of the work is in products of large blocks: 1.5 times as fast as one call of LAPACK.
    """
    n = A.shape[0]
    if n <= LEAF_COLUMNS or A.device.type != "cpu":
        found = torch.linalg.cholesky_ex(A)
        A.copy_(found.L)
        return int(found.info) == 0
    half = n // 2
    corner, below, rest = A[:half, :half], A[half:, :half], A[half:, half:]
    if not _factorised(corner):
        return False
    _divide(below, corner)
    _add_gram(rest, below.mH, -1.0)
    return _factorised(rest)


def _divide(B: Float[Tensor, "m n"], L: Float[Tensor, "n n"]) -> None:
    """B <- B L^{-H} for a lower triangular L, by halves: no copy of either is made."""
    n = L.shape[0]
    if n <= LEAF_COLUMNS:
        B.copy_(torch.linalg.solve_triangular(L.mH, B, upper=True, left=False))
        return
    half = n // 2
    _divide(B[:, :half], L[:half, :half])
    B[:, half:].addmm_(B[:, :half], L[half:, :half].mH, alpha=-1)
    _divide(B[:, half:], L[half:, half:])
