"""Bootstrap-t means: coverage on hard families, shared draws, and what has no bound."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from spectra.statistics.mean import mean_estimates

Draw = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def lognormal(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.exp(generator.normal(-1, 1.2, n)), np.ones(n)


def student(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return generator.standard_t(3, n), np.ones(n)


def longer_is_worse(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    weights = np.exp(generator.normal(3, 1, n))
    return 0.05 * np.log(weights) + generator.normal(0, 0.5, n), weights


def mostly_ties(generator: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    return np.where(generator.random(n) < 0.3, generator.choice([-0.25, 0.25, 0.25, 0.25], n), 0.0), np.ones(n)


@pytest.mark.parametrize(
    ("draw", "truth"),
    [
        (lognormal, math.exp(-1 + 1.2**2 / 2)),
        (student, 0.0),
        (longer_is_worse, 0.05 * (3 + 1)),  # the mean log weight is 3, weighted by itself 3 + 1
        (mostly_ties, 0.3 * 0.125),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
@pytest.mark.parametrize("n", [20, 100])
def test_the_interval_covers_or_says_that_it_cannot_tell(draw: Draw, truth: float, n: int) -> None:
    generator = np.random.default_rng(0)
    rounds, good = 200, 0
    for seed in range(rounds):
        values, weights = draw(generator, n)
        [found] = mean_estimates(values[:, None], weights, seed=seed, resamples=500)
        good += bool(found.cannot_tell) or found.low <= truth <= found.high
    # Measured at .95 to .98; three standard errors of 200 rounds are 4.6 points.
    assert good / rounds >= 0.91


def test_columns_share_their_draws_and_equal_those_alone() -> None:
    values = np.random.default_rng(1).normal(size=(40, 3))
    weights = np.arange(1.0, 41)
    together = mean_estimates(values, weights, seed=3, resamples=200)
    alone = [mean_estimates(values[:, one : one + 1], weights, seed=3, resamples=200)[0] for one in range(3)]
    for one, other in zip(together, alone, strict=True):
        assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_shift_and_scale_move_the_interval_along() -> None:
    values = np.random.default_rng(2).exponential(size=(50, 1))
    [plain], [moved] = (mean_estimates(v, np.ones(50), resamples=200) for v in (values, 1000 - 3 * values))
    assert (moved.low, moved.high) == pytest.approx((1000 - 3 * plain.high, 1000 - 3 * plain.low))


def test_replicates_without_spread_leave_an_end_open() -> None:
    """Of two examples in a hundred that differ, a resample misses both one time in seven."""
    values = np.zeros((100, 1))
    values[:2, 0] = 1.0, 1.1
    [found] = mean_estimates(values, np.ones(100))
    assert found.high == math.inf and found.low <= 0
    assert found.cannot_tell == "the loss of only 2 of 100 examples changed, and 6 are needed"


def test_examples_without_weight_take_no_part() -> None:
    values, weights = np.random.default_rng(3).normal(size=(60, 1)), np.ones(60)
    weights[40:] = 0
    assert mean_estimates(values, weights) == mean_estimates(values[:40], weights[:40])
