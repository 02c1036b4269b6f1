"""Brackets of the cluster-aware score: exact from the full factors of W0, proven from its leading ones."""

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.metrics.windows import WIDTH, window_cosines
from spectra.records.intruder_scan import OneSide
from spectra.scanning.facts import PairFacts
from spectra.scanning.nulls.known_cosines import known_cosines


def window_bounds(facts: PairFacts, side: OneSide) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Lower and upper bound of `metrics.windows.window_cosines` for the leading tuned vectors of one side.

    With the leading l base vectors alone: a window among them gives the lower bound. The upper bound adds to every
    window the energy that may lie beyond: at most what y has left, and at most WIDTH upper^2, because no single u_i
    holds more than the certified upper^2.

    Returns:
        (lower, upper), equal where every cosine is known.
    """
    bounds, base = facts.bounds[side], facts.base
    if bounds.cosines is not None:
        score = window_cosines(bounds.cosines)
        return score, score
    if base.factors.has_full():
        full = base.factors.full()
        Y = bounds.U()
        score = window_cosines(full.U.mH @ Y if side == "left" else full.Vh @ Y)
        return score, score
    cosines, known_error = known_cosines(base, bounds.U(), side)
    if cosines.shape[0] < WIDTH:
        return bounds.lower.double(), torch.ones_like(bounds.lower, dtype=torch.float64)
    # ... and every y_j may be off, too.
    error = known_error + (0.0 if bounds.sin_angles is None else bounds.sin_angles)
    low = (cosines.abs() - error).clamp_min(0)
    lower = torch.maximum(window_cosines(low), bounds.lower.double())
    high = (cosines.abs() + error).clamp(max=1)
    beyond = torch.minimum((1 - (low**2).sum(dim=0)).clamp_min(0), WIDTH * bounds.upper.double() ** 2)
    crossing = (high[-(WIDTH - 1) :] ** 2).sum(dim=0) + beyond
    upper = torch.maximum(window_cosines(high) ** 2, crossing).clamp(max=1).sqrt()
    return lower, torch.maximum(upper, lower)
