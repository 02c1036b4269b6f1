"""Ranks of a spectrum that is not exactly low-rank. Three different numbers: their names are never mixed."""

import torch
from jaxtyping import Float
from torch import Tensor


def effective_rank(S: Float[Tensor, " n"], weights: Float[Tensor, " n"] | None = None) -> float:
    """exp(entropy of p) with p = S / sum(S).

    Args:
        S: Singular values, non-negative; all zero gives 0.
        weights: How many singular values each entry stands for (estimates of a spectrum); ones by default.

    Returns:
        A number in [1, n]; 6.3 for S = (10, 1, 1, ..., 1) with ten ones.

    Source: Roy & Vetterli 2007, "The effective rank: a measure of effective dimensionality", definition 1.
        Difference: none. It is not the stable rank, and not the entropy of squared singular values.
    """
    counts = torch.ones_like(S, dtype=torch.float64) if weights is None else weights.double()
    total = (counts * S.double()).sum()
    if total <= 0:
        return 0.0
    p = S.double() / total
    return float(torch.exp(-(counts * torch.special.xlogy(p, p)).sum()))


def stable_rank(S: Float[Tensor, " n"]) -> float:
    """||.||_F^2 / ||.||_2^2 = sum(S^2) / max(S)^2.

    Args:
        S: Singular values, non-negative; all zero gives 0.

    Returns:
        A number in [1, n]; 1.1 for S = (10, 1, 1, ..., 1) with ten ones.

    Source: Rudelson & Vershynin 2007, "Sampling from large matrices", section 1 ("numerical rank" there).
        Difference: none; WeightWatcher calls the same quantity stable_rank.
    """
    largest = S.double().max() if S.shape[0] else S.new_zeros(())
    if largest <= 0:
        return 0.0
    return float(((S.double() / largest) ** 2).sum())


def numerical_rank(S: Float[Tensor, " n"], *, rcond: float, weights: Float[Tensor, " n"] | None = None) -> float:
    """#{ i : S_i > rcond S_1 }.

    Args:
        S: Singular values, decreasing; all zero gives 0.
        rcond: Relative size below which a value counts as zero; max(d_out, d_in) roundings of the arithmetic is the
            usual choice (`default_rcond`).
        weights: How many singular values each entry stands for; ones by default.

    Source: Golub & Van Loan, Matrix Computations, 4th ed., section 5.4.1.
        Difference: none; `numpy.linalg.matrix_rank` counts the same.
    """
    above = rcond * S[:1] < S
    return float(above.sum()) if weights is None else float(weights[above].double().sum())


def default_rcond(shape: tuple[int, int], dtype: torch.dtype) -> float:
    """max(d_out, d_in) eps:  as small as a singular value can be told from zero in this arithmetic.

    Source: numpy.linalg.matrix_rank (after MATLAB's rank).
        Difference: none.
    """
    return max(shape) * torch.finfo(dtype).eps
