"""Score intervals of proportions: of one, and of the difference of two that were measured on the same examples."""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

from spectra.statistics.information import lack_of_pairs
from spectra.statistics.interval import Estimate

BISECTIONS = 60  # halvings of an interval of length 2 at most: to rounding


def wilson(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """The p with  |share - p| <= z sqrt(p (1 - p) / n).

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
        Difference: none.
    """
    z = float(ndtri((1 + level) / 2))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return middle - half, middle + half


def is_binary(values: Float[np.ndarray, " n"]) -> bool:
    """Whether every loss is 0 or 1."""
    return bool(np.isin(values, (0.0, 1.0)).all())


def paired_proportions(
    first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"], *, level: float = 0.95
) -> Estimate:
    """Mean of `second` minus mean of `first`, 0/1 losses of the same examples, with its score interval.

    b = #(0 -> 1), c = #(1 -> 0);  delta lies inside where  |b - c - n delta| <= z sqrt(v n / (n - 1)),
    v = n (2 q + delta (1 - delta)),  q the most likely P(1 -> 0) given delta:
    q = (sqrt(B^2 - 8 n C) - B) / (4 n),   B = (2 n - b + c) delta - b - c,   C = -c delta (1 - delta).

    Examples that did not change count by their number: without a single change the interval is +-z^2 / (n + z^2).

    Source: Tango 1998, Statistics in Medicine 17, 891-908.
        Difference: n / (n - 1) in the variance, as Miettinen & Nurminen 1985 have it for independent samples; with it
        one-sided changes at a rate of about 12 in 100 examples are covered in 94 rather than 93 % of samples.
    """
    n = len(first)
    b, c = float((second > first).sum()), float((first > second).sum())
    reason = lack_of_pairs(int(b + c), n)
    value, method = (b - c) / n, "score interval of paired proportions (Tango 1998)"
    if n == 1:
        return Estimate.undecided(value, -1.0, 1.0, reason, method)
    z = float(ndtri((1 + level) / 2)) * math.sqrt(n / (n - 1))

    def surplus(delta: float) -> float:
        """(b - c - n delta) / sqrt(v), which falls with delta."""
        B, C = (2 * n - b + c) * delta - b - c, -c * delta * (1 - delta)
        q = (math.sqrt(max(B * B - 8 * n * C, 0.0)) - B) / (4 * n)
        variance, difference = n * (2 * q + delta * (1 - delta)), b - c - n * delta
        if variance > 0:
            return difference / math.sqrt(variance)
        return math.copysign(math.inf, difference) if difference else 0.0

    low = _falls_to(surplus, z, -1.0, value)
    high = _falls_to(surplus, -z, value, 1.0)
    return Estimate.undecided(value, low, high, reason, method)


def _falls_to(falling: Callable[[float], float], target: float, low: float, high: float) -> float:
    """Where a falling function passes the target, between two ends."""
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > target else (low, middle)
    return (low + high) / 2
