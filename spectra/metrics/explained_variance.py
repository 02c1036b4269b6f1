"""How many singular directions a share of a matrix's energy takes."""

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import SpectrumError


def rank_for_variance(S: Float[Tensor, " n"], share: float, weights: Float[Tensor, " n"] | None = None) -> float:
    """min{ j : sum_{i <= j} S_i^2 >= share * sum_i S_i^2 }.  Cost O(n).

    Args:
        S: Singular values, decreasing; all zero gives 0.
        share: In (0, 1], such as 0.9.
        weights: How many singular values each entry stands for (estimates of a spectrum); ones by default.

    Returns:
        A whole number for a plain spectrum, between two values for a weighted one.

    Raises:
        SpectrumError: If the share lies outside (0, 1].

    Source: Biderman et al. 2024, "LoRA Learns Less and Forgets Less", arXiv:2405.09673 (90 % of delta_W's variance).
        Difference: none for plain spectra.
    """
    if not 0 < share <= 1:
        raise SpectrumError(f"share is {share}, but a share of the variance lies in (0, 1]. Use for instance 0.9.")
    counts = torch.ones_like(S, dtype=torch.float64) if weights is None else weights.double()
    energy = (counts * S.double() ** 2).cumsum(dim=0)
    if S.shape[0] == 0 or energy[-1] <= 0:
        return 0.0
    # A hair of slack: 0.9 * sum may round above a partial sum that equals it.
    goal = share * energy[-1] * (1 - 1e-12)
    last = int((energy < goal).sum())
    if weights is None:
        return float(last + 1)
    before = float(energy[last - 1]) if last else 0.0
    within = (float(goal) - before) / max(float(energy[last]) - before, 1e-300)
    return float(counts[:last].sum()) + within * float(counts[last])


def variance_of_rank(S: Float[Tensor, " n"], rank: int, weights: Float[Tensor, " n"] | None = None) -> float:
    """sum_{i <= rank} S_i^2 / sum_i S_i^2: the share of the energy that the best approximation of a rank keeps.

    Args:
        S: Singular values, decreasing; all zero gives 1, because nothing is lost.
        rank: At least 0; beyond n everything is kept.
        weights: How many singular values each entry stands for (estimates of a spectrum); ones by default.

    Source: Eckart & Young 1936. Difference: none.
    """
    counts = torch.ones_like(S, dtype=torch.float64) if weights is None else weights.double()
    squares = S.double() ** 2
    total = float((counts * squares).sum())
    before = counts.cumsum(dim=0) - counts
    held = torch.minimum((rank - before).clamp_min(0), counts)
    return float((held * squares).sum()) / total if total > 0 else 1.0
