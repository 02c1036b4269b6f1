import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra.report.statistics import correlation, correlations, partial_correlation, rho_interval, spearman


def table(**columns: list[float | None]) -> pd.DataFrame:
    return pd.DataFrame(columns).astype("Float64")


def test_perfectly_ranked_trials_have_a_coefficient_of_one_and_no_interval() -> None:
    row = correlation(table(count=[1, 2, 4, 9, 30], forgetting=[0.1, 0.2, 0.3, 0.4, 0.5]), "prose", "count")
    assert row.rho == 1.0
    assert (row.low, row.high) == (None, None)
    assert row.note == "no interval for a perfect ranking"


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=4, max_size=30))
def test_the_coefficient_agrees_with_scipy_also_with_ties(pairs: list[tuple[int, int]]) -> None:
    from scipy.stats import spearmanr

    first, second = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    if len(set(first)) < 2 or len(set(second)) < 2:
        return
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def test_the_interval_at_zero_is_the_textbook_one() -> None:
    # sqrt((1 + 0) / (28 - 3)) = 0.2, and 1.96 * 0.2 = 0.392.
    low, high, note = rho_interval(0.0, 28)
    assert (low, high) == (pytest.approx(-math.tanh(0.392), abs=1e-5), pytest.approx(math.tanh(0.392), abs=1e-5))
    assert note == ""


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(0)
    rounds, n, pearson = 1000, 20, 0.6
    # For a bivariate normal, Spearman's rho is 6/pi * asin(rho/2).
    truth = 6 / math.pi * math.asin(pearson / 2)
    covered = 0
    for _ in range(rounds):
        first = draw.normal(size=n)
        second = pearson * first + math.sqrt(1 - pearson**2) * draw.normal(size=n)
        low, high, _ = rho_interval(spearman(first, second), n)
        assert low is not None and high is not None
        covered += low <= truth <= high
    # Two standard errors of 1,000 rounds are 1.4 points; the formula is an approximation of a few points itself.
    assert 0.92 <= covered / rounds <= 0.98


def test_a_partial_coefficient_vanishes_when_the_third_measure_explains_all() -> None:
    assert partial_correlation(0.72, 0.9, 0.8) == pytest.approx(0.0)
    assert partial_correlation(0.5, 1.0, 0.5) is None


def test_a_partial_coefficient_equals_that_of_the_residual_ranks() -> None:
    draw = np.random.default_rng(1)
    x, y, z = draw.normal(size=(3, 40))
    y = y + x + z

    def residual(values: np.ndarray, given: np.ndarray) -> np.ndarray:
        ranks, base = values.argsort().argsort(), given.argsort().argsort()
        slope, offset = np.polyfit(base, ranks, 1)
        return ranks - slope * base - offset

    expected = np.corrcoef(residual(x, z), residual(y, z))[0, 1]
    assert partial_correlation(spearman(x, y), spearman(x, z), spearman(y, z)) == pytest.approx(expected)


def test_counts_that_never_vary_have_no_coefficient() -> None:
    row = correlation(table(count=[0, 0, 0, 0], forgetting=[0.1, 0.2, 0.3, 0.4]), "prose", "count")
    assert row.rho is None
    assert row.note == "intruder count never varies"


def test_trials_without_a_measure_do_not_count() -> None:
    row = correlation(table(count=[1, None, 3, 2], forgetting=[0.1, 0.2, 0.3, 0.4]), "prose", "count")
    assert row.n == 3
    assert row.note == "no interval below 5 trials"


def test_two_trials_are_too_few() -> None:
    assert correlation(table(count=[1, 2], forgetting=[0.1, 0.2]), "prose", "count").note == "2 trials are too few"


def test_every_held_out_task_gets_every_measure() -> None:
    trials = pd.DataFrame({"trial": ["a", "b", "c"], "count": [1, 2, 3], "update_relative": [0.3, 0.1, 0.2]})
    forgetting = pd.DataFrame(
        {"trial": ["a", "b", "c"] * 2, "heldout": ["x"] * 3 + ["y"] * 3, "forgetting": [1.0, 2, 3, 3, 2, 1]}
    )
    rows = correlations(trials, forgetting)
    assert {(row.heldout, row.measure, row.given) for row in rows} == {
        (heldout, *pair)
        for heldout in "xy"
        for pair in (("count", ""), ("update_relative", ""), ("count", "update_relative"))
    }
    assert [row.rho for row in rows if row.measure == "count" and not row.given] == [1.0, -1.0]
