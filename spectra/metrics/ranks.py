"""Ranks of a spectrum that is not exactly low-rank. Three different numbers: their names are never mixed."""

import torch
from jaxtyping import Float
from torch import Tensor


def effective_rank(S: Float[Tensor, " n"]) -> float:
    """exp(entropy of p) with p = S / sum(S).

    Args:
        S: Singular values, non-negative; all zero gives 0.

    Returns:
        A number in [1, n]; 6.3 for S = (10, 1, 1, ..., 1) with ten ones.

    Source: Roy & Vetterli 2007, "The effective rank: a measure of effective dimensionality", definition 1.
        Difference: none. It is not the stable rank, and not the entropy of squared singular values.
    """
    total = S.double().sum()
    if total <= 0:
        return 0.0
    p = S.double() / total
    return float(torch.exp(-torch.special.xlogy(p, p).sum()))


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
