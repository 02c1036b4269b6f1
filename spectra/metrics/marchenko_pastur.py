"""Where the spectrum of pure noise would end, and what stands above it."""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from torch import Tensor


def noise_level(S: Float[Tensor, " n"], shape: tuple[int, int], weights: Float[Tensor, " n"] | None = None) -> float:
    """sigma = median(S) / sqrt(max(d_out, d_in) mu_beta):  the entry size of the noise whose median S has.

    Args:
        S: All singular values, decreasing.
        shape: (d_out, d_in); beta = min / max.
        weights: How many singular values each entry stands for; ones by default.

    Returns:
        The standard deviation of an entry. mu_beta is the median of the Marchenko-Pastur law at beta.

    Source: Gavish & Donoho 2014, "The optimal hard threshold for singular values is 4/sqrt(3)", section III.E.
        Difference: none. It supposes that at least half of the singular values are bulk.
    """
    counts = np.ones(S.shape[0]) if weights is None else weights.double().cpu().numpy()
    values = S.double().cpu().numpy()
    # The middle of each step of the weighted distribution: the ordinary median for unit weights.
    place = (np.cumsum(counts) - counts / 2) / counts.sum()
    median = float(np.interp(0.5, place, values))
    return median / math.sqrt(max(shape) * _median(min(shape) / max(shape)))


def bulk_edge(sigma: float, shape: tuple[int, int]) -> float:
    """sigma (sqrt(d_out) + sqrt(d_in)):  the largest singular value of pure noise, in the limit.

    Source: Marchenko & Pastur 1967; Geman 1980 for the largest value.
        Difference: the limit. A matrix of finite size exceeds it by about sigma d^(-1/6) now and then (Tracy & Widom).
    """
    return sigma * (math.sqrt(shape[0]) + math.sqrt(shape[1]))


def spikes(S: Float[Tensor, " n"], edge: float, weights: Float[Tensor, " n"] | None = None) -> float:
    """#{ i : S_i > edge },  weighted where the entries stand for several values.

    Source: the spiked model, Johnstone 2001; "MP spikes" of WeightWatcher (Martin & Mahoney, arXiv:1810.01075).
        Difference: the edge comes from the median (`noise_level`), not from a fit of the bulk's density.
    """
    above = edge < S
    return float(above.sum()) if weights is None else float(weights[above].double().sum())


@lru_cache(maxsize=64)
def _median(beta: float) -> float:
    """Median of the Marchenko-Pastur law of eigenvalues with ratio beta in (0, 1] and unit variance."""
    low, high = (1 - math.sqrt(beta)) ** 2, (1 + math.sqrt(beta)) ** 2
    # x = low + (high - low) sin^2 takes the square-root edges out of the integrand.
    angle = (np.arange(20000) + 0.5) * (math.pi / 2 / 20000)
    x = low + (high - low) * np.sin(angle) ** 2
    mass = np.cumsum((np.sin(angle) * np.cos(angle)) ** 2 / x)
    # The mass up to a cell's upper edge belongs to that edge, not to the cell's middle.
    edge = angle + math.pi / 4 / 20000
    return float(low + (high - low) * math.sin(np.interp(0.5, mass / mass[-1], edge)) ** 2)
