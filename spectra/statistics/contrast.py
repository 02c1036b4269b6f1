"""Two curves over lambda held against each other: the area between them, also at equal task score, resampled."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from spectra.statistics.information import lack_of_number
from spectra.statistics.interval import Estimate
from spectra.statistics.resampling import RESAMPLES, resampled_sums, tail
from spectra.statistics.scores import Scores

GRID = 33  # task losses at which two curves are compared


def losses_with_replicates(
    scores: Sequence[Scores], *, seed: int, resamples: int = RESAMPLES
) -> Float[np.ndarray, "replicates points"]:
    """Mean losses of several points on the same examples, and the same means over resampled examples.

    loss = sum_i c_i w_i v_i / sum_i c_i w_i,   c_i = how often a replicate drew example i

    The examples are drawn once per replicate for all points, so that differences between points stay paired.

    Args:
        scores: One entry per point, all of the same examples.
        seed: Of the resampling.
        resamples: Number of replicates.

    Returns:
        Row 0 are the measured means (every c_i = 1), the further rows the replicates.

    Cost: O(resamples * n * points).
    """
    weights = np.stack([one.weights for one in scores], axis=1)
    weighted = weights * np.stack([one.values for one in scores], axis=1)
    columns = np.concatenate([weighted, weights], axis=1)
    sums = np.concatenate([columns.sum(0, keepdims=True), resampled_sums(columns, seed=seed, resamples=resamples)])
    above, below = np.split(sums, 2, axis=1)
    return above / below


def percentile_estimate(
    replicates: Float[np.ndarray, " replicates"], *, n: int, level: float, cannot_tell: str = ""
) -> Estimate:
    """A figure that is no mean of examples, with its percentile interval.

    Args:
        replicates: The measured figure, then that of every resample.
        n: Examples that were drawn; of two sets, those of the smaller.
        level: Coverage, in (0, 1).
        cannot_tell: Why the examples of a figure that this one rests on do not tell, or "".

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapter 13.
        Difference: tails shrunk in small samples (`resampling.tail`).
    """
    value, drawn = float(replicates[0]), replicates[1:]
    reason = cannot_tell or lack_of_number(n)
    if float(drawn.min()) == float(drawn.max()):
        return Estimate.unknown(value, reason or f"it is the same whichever of the {n:,} examples are drawn")
    beyond = tail(level, n)
    low, high = np.quantile(drawn, [beyond, 1 - beyond])
    return Estimate.undecided(value, float(low), float(high), reason, "percentile bootstrap")


def area(
    factors: Float[np.ndarray, " points"], difference: Float[np.ndarray, "replicates points"]
) -> Float[np.ndarray, " replicates"]:
    """Mean of a difference of two curves over lambda:  integral of it (trapezoids) / (largest - smallest lambda)."""
    steps = np.diff(factors)
    return (0.5 * (difference[:, 1:] + difference[:, :-1]) * steps).sum(1) / steps.sum()


def at_equal_score(
    task: tuple[Float[np.ndarray, "replicates points"], Float[np.ndarray, "replicates points"]],
    forgetting: tuple[Float[np.ndarray, "replicates points"], Float[np.ndarray, "replicates points"]],
) -> Float[np.ndarray, " replicates"]:
    """How much less the second of two arms forgets than the first, for the same loss on the task.

    g_a(t) = the least forgetting that arm a reaches, between its points too, while its task loss is at most t
    result = mean over t in [t_1, t_2] of  g_first(t) - g_second(t)

    t_1 is the task loss at lambda = 1, which both arms share, and t_2 the smaller of the two largest task losses; where
    an arm never loses anything on the task, t_2 = t_1 and only that point counts. g falls with t by construction, so
    the curve may bend back (a task score that improves at first) without harm. The least of several noisy points is
    biased downwards, for both arms alike; the replicates go through the same choice.

    Args:
        task: Task losses of both arms; the last point of each is lambda = 1.
        forgetting: Forgetting of both arms at the same points.
    """
    start = np.maximum(task[0][:, -1], task[1][:, -1])
    stop = np.maximum(start, np.minimum(task[0].max(1), task[1].max(1)))
    at = start[:, None] + (stop - start)[:, None] * np.linspace(0, 1, GRID)
    first, second = (_least(losses, forgotten, at) for losses, forgotten in zip(task, forgetting, strict=True))
    return (first - second).mean(1)


def _least(
    task: Float[np.ndarray, "replicates points"],
    forgetting: Float[np.ndarray, "replicates points"],
    at: Float[np.ndarray, "replicates grid"],
) -> Float[np.ndarray, "replicates grid"]:
    """g_a at some task losses: the least over points that qualify and over crossings between neighbouring points."""
    best = np.full(at.shape, np.inf)
    for point in range(task.shape[1]):
        allowed = task[:, point, None] <= at
        best = np.where(allowed, np.minimum(best, forgetting[:, point, None]), best)
    for left in range(task.shape[1] - 1):
        loss, next_loss = task[:, left, None], task[:, left + 1, None]
        rise = next_loss - loss
        crosses = (np.minimum(loss, next_loss) < at) & (at < np.maximum(loss, next_loss))
        share = np.divide(at - loss, rise, out=np.zeros_like(at), where=crosses)
        value = forgetting[:, left, None] + share * (forgetting[:, left + 1] - forgetting[:, left])[:, None]
        best = np.where(crosses, np.minimum(best, value), best)
    return best
