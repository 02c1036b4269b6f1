"""Weighted means of heavy-tailed losses with bootstrap-t intervals."""

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

from spectra.statistics.information import differing_values, lack_of_examples
from spectra.statistics.interval import Estimate
from spectra.statistics.resampling import RESAMPLES, resampled_sums, tail

ALIKE = 1e-6  # of the measured standard error: one below it is what rounding leaves of zero


def mean_estimates(
    values: Float[np.ndarray, "n m"],
    weights: Float[np.ndarray, " n"],
    *,
    level: float = 0.95,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[Estimate]:
    """The weighted mean of every column, with its bootstrap-t interval; all columns share the draws.

    mean = sum w v / sum w,   se^2 = n / (n - 1)  sum w^2 (v - mean)^2 / (sum w)^2,
    t* = (mean* - mean) / se*  of every replicate,   interval = [mean - t*_(1 - a) se,  mean - t*_(a) se],
    a = `tail(level, n)`,  and neither quantile is taken nearer to zero than that of Student's t.

    Args:
        values: One row per example, one column per mean.
        weights: Of the examples; those of weight zero take no part.
        level: Coverage, in (0, 1).
        seed: Of the draws.
        resamples: Replicates.

    Returns:
        One estimate per column. An end is infinite where the replicates do not bound it.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, section 12.5; the standard error of a ratio is
        the linearised one, Cochran 1977, Sampling Techniques, section 6.3.
        Difference: tails shrunk in small samples, and Student's t as the least width: a percentile interval covers
        lognormal losses (sigma 1.2) of 20 examples in 79 % of samples, this one in 95 %.
    Cost: O(resamples * n * m).
    """
    weights, values = weights[weights > 0], values[weights > 0]
    n, total = len(weights), weights.sum()
    means = weights @ values / total
    residuals = weights[:, None] * (values - means)
    unbiased = n / max(n - 1, 1)
    errors = np.sqrt(unbiased * (residuals**2).sum(0)) / total
    columns = np.column_stack([weights, weights**2, residuals, weights[:, None] * residuals, residuals**2])
    sums = resampled_sums(columns, seed=seed, resamples=resamples)
    drawn, drawn_squares = sums[:, :1], sums[:, 1:2]
    first, cross, square = np.split(sums[:, 2:], 3, axis=1)
    shifts = first / drawn
    spread = np.maximum(square - 2 * shifts * cross + shifts**2 * drawn_squares, 0)
    replicates = _studentised(shifts, np.sqrt(unbiased * spread) / drawn, errors)
    beyond = tail(level, n)
    below, above = np.quantile(replicates, [beyond, 1 - beyond], axis=0, method="inverted_cdf")
    student = float(stdtrit(max(n - 1, 1), 1 - beyond))
    return [
        _estimate(values[:, one], residuals[:, one], mean, error, (min(low, -student), max(high, student)))
        for one, (mean, error, low, high) in enumerate(zip(means.tolist(), errors, below, above, strict=True))
    ]


def _studentised(
    shifts: Float[np.ndarray, "replicates m"],
    errors: Float[np.ndarray, "replicates m"],
    measured: Float[np.ndarray, " m"],
) -> Float[np.ndarray, "replicates m"]:
    """t* of every replicate; infinite where all drawn values are alike and elsewhere than the mean."""
    vary = errors > ALIKE * measured
    moved = np.where(np.abs(shifts) > ALIKE * measured, np.sign(shifts), 0.0)
    # Zero times infinity is no number, so the signs meet infinity where they are not zero only.
    alike = np.where(moved == 0, 0.0, np.where(moved > 0, np.inf, -np.inf))
    return np.where(vary, shifts / np.where(vary, errors, 1.0), alike)


def _estimate(
    values: Float[np.ndarray, " n"],
    residuals: Float[np.ndarray, " n"],
    mean: float,
    error: float,
    quantiles: tuple[float, float],
) -> Estimate:
    reason = lack_of_examples(values, residuals)
    if differing_values(values) == 0:
        return Estimate.unknown(mean, reason)
    low, high = float(mean - quantiles[1] * error), float(mean - quantiles[0] * error)
    return Estimate.undecided(mean, low, high, reason, "bootstrap-t")
