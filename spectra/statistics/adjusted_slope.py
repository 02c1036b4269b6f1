"""The slope of y on x at equal z, where z may be a noisy measure, with a jackknife interval over clusters.

Two measures of one thing, both a little noisy, each predict a third beyond the other. So a slope "beyond z" is believed
only if it survives the assumption that a stated part of the variance of z is noise.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from scipy.special import stdtrit

from spectra.statistics.interval import Estimate
from spectra.statistics.over_units import smallest_effect

FEWEST_CLUSTERS = 5
LOST = 2  # clusters that Student's degrees of freedom are short of
FEWEST_POINTS = 12
COLLINEAR = 1e-9  # smallest eigenvalue of the correlations of the regressors that is told from rounding


@dataclass(frozen=True)
class Slope:
    """A slope with its interval.

    Attributes:
        estimate: The slope with z taken as exact; its interval spans those of all allowed reliabilities.
        error: The larger standard error.
        clusters: Number of clusters.
        points: Number of points.
        smallest: The smallest true slope that would have been found in 80 % of studies like this one; None without an
            interval.
    """

    estimate: Estimate
    error: float
    clusters: int
    points: int
    smallest: float | None


def adjusted_slope(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    z: Float[np.ndarray, " n"],
    clusters: Shaped[np.ndarray, " n"],
    *,
    level: float,
    reliability: float = 1.0,
    within: bool = False,
) -> Slope:
    """b of  y = a + b x + c z + d z^2 + e,  jackknifed over clusters.

    Args:
        x: What the slope is of.
        y: What it explains.
        z: What is held fixed.
        clusters: Points whose errors may depend on one another, such as one configuration at several learning rates.
        level: Coverage, in (0, 1).
        reliability: Smallest share of the variance of z that is taken for true, in (0.5, 1]. The interval spans that of
            an exact z and that of this reliability.
        within: Compare points of one cluster only: every cluster has an intercept of its own.

    Returns:
        The slope; without an interval where there are too few points or clusters, or x does not vary beyond z.

    Source: the delete-a-group jackknife with t on G - 1 degrees of freedom, Cameron & Miller 2015, J. Human Resources
        50, section VI; a polynomial in a noisy z by corrected moments, Chan & Mak 1989, Biometrika 76.
        Difference: G - 2 degrees of freedom, because 8 unequal clusters with G - 1 were covered in 91 to 95 % at a
        level of 95 %; and both intervals together are given.
    """
    names, member = np.unique(clusters, return_inverse=True)
    number, points = len(names), len(x)
    if reason := _lack(x, number, points, within=within):
        return Slope(Estimate.unknown(float("nan"), reason), 0.0, number, points, None)
    spread = float(z.std())
    z = (z - z.mean()) / (spread or 1.0)
    found = [_jackknifed(x, y, z, member, noise, within=within) for noise in sorted({0.0, 1 - reliability})]
    if any(one is None for one in found):
        reason = "the count hardly varies beyond the norm"
        return Slope(Estimate.unknown(found[0][0] if found[0] else float("nan"), reason), 0.0, number, points, None)
    known = [one for one in found if one is not None]
    freedom = float(number - LOST)
    quantile = float(stdtrit(freedom, (1 + level) / 2))
    ends = [(slope - quantile * error, slope + quantile * error) for slope, error in known]
    error = max(error for _, error in known)
    estimate = Estimate(
        known[0][0], min(low for low, _ in ends), max(high for _, high in ends), method="jackknife over configurations"
    )
    return Slope(estimate, error, number, points, smallest_effect(error, freedom, level))


def _lack(x: Float[np.ndarray, " n"], clusters: int, points: int, *, within: bool) -> str:
    if clusters < FEWEST_CLUSTERS:
        return f"there are {clusters} configurations, and {FEWEST_CLUSTERS} are needed"
    least = max(FEWEST_POINTS, clusters + FEWEST_CLUSTERS) if within else FEWEST_POINTS
    if points < least:
        return f"there are {points} settings, and {least} are needed"
    if float(x.std()) == 0:
        return "the count is the same in all settings"
    return ""


def _jackknifed(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    z: Float[np.ndarray, " n"],
    member: Shaped[np.ndarray, " n"],
    noise: float,
    *,
    within: bool,
) -> tuple[float, float] | None:
    """b and its standard error  sqrt((G - 1) / G  sum_g (b_-g - b)^2);  None where b is not determined."""
    groups = int(member.max()) + 1
    columns, cross = _moments(x, y, z, member, noise, within=within)
    sums = np.zeros((groups, *columns.shape[1:]))
    right = np.zeros((groups, *cross.shape[1:]))
    np.add.at(sums, member, columns)
    np.add.at(right, member, cross)
    left = sums.sum(0)[None] - np.concatenate([np.zeros_like(sums[:1]), sums])
    wanted = right.sum(0)[None] - np.concatenate([np.zeros_like(right[:1]), right])
    scale = np.sqrt(np.abs(np.diagonal(left, axis1=1, axis2=2)))
    if (scale == 0).any():
        return None
    scaled = left / scale[:, :, None] / scale[:, None, :]
    if float(np.linalg.eigvalsh(scaled).min()) < COLLINEAR:
        return None
    slopes = (np.linalg.solve(scaled, (wanted / scale)[..., None])[..., 0] / scale)[:, 0]
    whole, others = slopes[0], slopes[1:]
    return float(whole), float(np.sqrt((groups - 1) / groups * ((others - whole) ** 2).sum()))


def _moments(
    x: Float[np.ndarray, " n"],
    y: Float[np.ndarray, " n"],
    z: Float[np.ndarray, " n"],
    member: Shaped[np.ndarray, " n"],
    noise: float,
    *,
    within: bool,
) -> tuple[Float[np.ndarray, "n p p"], Float[np.ndarray, "n p"]]:
    """Of every point, its part in the left and the right side of the normal equations; the slope stands first.

    With z = z* + u, u normal of variance s:  z,  z^2 - s,  z^3 - 3 s z  and  z^4 - 6 s z^2 + 3 s^2  are unbiased for
    the powers of z*.
    """
    powers = [z, z**2 - noise, z**3 - 3 * noise * z, z**4 - 6 * noise * z**2 + 3 * noise**2]
    ones = np.ones_like(z)
    if not within:
        left = np.array(
            [
                [x * x, x, x * powers[0], x * powers[1]],
                [x, ones, powers[0], powers[1]],
                [x * powers[0], powers[0], powers[1], powers[2]],
                [x * powers[1], powers[1], powers[2], powers[3]],
            ]
        )
        return left.transpose(2, 0, 1), np.stack([x * y, y, powers[0] * y, powers[1] * y], axis=1)
    counts = np.bincount(member)

    def centred(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        return values - (np.bincount(member, values) / counts)[member]

    regressors = np.stack([centred(x), centred(z), centred(z**2)], axis=1)
    return regressors[:, :, None] * regressors[:, None, :], regressors * centred(y)[:, None]
