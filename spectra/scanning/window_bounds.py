"""Cosines to the base vectors that are known, and brackets of the cluster-aware score from them."""

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.placement import numbers
from spectra.metrics.windows import WIDTH, window_cosines
from spectra.records.verdicts import OneSide
from spectra.scanning.facts import BaseFacts, PairFacts, vectors_of


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
        score = window_cosines((vectors_of(full, side).mH @ bounds.U()).cpu())
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


def known_cosines(base: BaseFacts, Y: Float[Tensor, "d k"], side: OneSide) -> tuple[Float[Tensor, "l k"], float]:
    """<u_i, y_j> for the leading u_i that are known (there may be none), and a bound on their error."""
    known, W0 = base.factors.leading, base.W0
    if known is None:
        return torch.zeros(0, Y.shape[1], dtype=torch.float64), 0.0
    error = float(known.sin_angles.max())
    if side == base.smaller_side:
        return numbers(known.vectors.mH @ Y), error
    # <u_i, y> = <v_i, W0^H y> / sigma_i: an error in v_i grows by at most sigma_1 / sigma_i.
    sizes = known.values.clamp_min(1e-300).sqrt()
    image = W0.rmatmat(Y) if side == "left" else W0.matmat(Y)
    return numbers(known.vectors.mH @ image) / sizes[:, None], error * float(sizes[0] / sizes[-1])
