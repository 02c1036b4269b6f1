"""Rank correlations against scipy, against a bootstrap written out as a loop, and on data with a planted answer."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from spectra.statistics.rank_correlation import FEWEST_CLUSTERS, Correlation, rank_correlation
from spectra.statistics.resampling import multiplicities


def apart(n: int) -> np.ndarray:
    """Every point a cluster of its own."""
    return np.arange(n)


def test_perfectly_ranked_points_have_a_coefficient_of_one_and_no_interval() -> None:
    found = rank_correlation(np.arange(9.0), np.exp(np.arange(9.0)), apart(9))
    assert found == Correlation(1.0, note="no interval for a perfect ranking")


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=FEWEST_CLUSTERS, max_size=30))
def test_the_coefficient_agrees_with_scipy_also_with_ties(pairs: list[tuple[int, int]]) -> None:
    first, second = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    if len(set(first)) < 2 or len(set(second)) < 2:
        return
    found = rank_correlation(first, second, apart(len(first)), samples=10)
    assert found.rho == pytest.approx(spearmanr(first, second).statistic, abs=1e-12)


def residual_ranks(values: np.ndarray, given: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    slope, offset = np.polyfit(rankdata(given), rankdata(values), 1)
    return rankdata(values) - slope * rankdata(given) - offset


def test_a_partial_coefficient_is_that_of_what_the_ranks_of_the_third_leave() -> None:
    x, y, z = np.random.default_rng(1).normal(size=(3, 40))
    y = y + x + z
    found = rank_correlation(x, y, apart(40), z, samples=10)
    expected = np.corrcoef(residual_ranks(x, z), residual_ranks(y, z))[0, 1]
    assert found.rho == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("partial", [False, True])
def test_the_interval_is_that_of_a_bootstrap_written_out(partial: bool) -> None:
    draw = np.random.default_rng(2)
    clusters = np.repeat(np.arange(12), [1, 2, 3] * 4)
    # Rounded, so that there are ties before any point is drawn twice.
    x = np.round(draw.normal(size=24), 1)
    z = np.round(x + draw.normal(size=24), 1)
    y = np.round(x + z + draw.normal(size=24), 1)
    found = rank_correlation(x, y, clusters, z if partial else None, samples=300, seed=7)
    slow = []
    for times in np.concatenate(list(multiplicities(12, seed=7, resamples=300))).astype(int):
        points = np.concatenate([np.flatnonzero(clusters == c).tolist() * times[c] for c in range(12)]).astype(int)
        if partial:
            a, b = residual_ranks(x[points], z[points]), residual_ranks(y[points], z[points])
            slow.append(np.corrcoef(a, b)[0, 1])
        else:
            slow.append(spearmanr(x[points], y[points]).statistic)
    assert (found.low, found.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]), abs=1e-9)


def test_the_interval_covers_the_truth_about_as_often_as_it_says_down_to_the_fewest_clusters() -> None:
    draw = np.random.default_rng(0)
    rounds, pearson = 300, 0.6
    # For a bivariate normal, Spearman's rho is 6/pi * asin(rho/2).
    truth = 6 / math.pi * math.asin(pearson / 2)
    for n in (FEWEST_CLUSTERS, 20):
        covered = given = 0
        for _ in range(rounds):
            first = draw.normal(size=n)
            second = pearson * first + math.sqrt(1 - pearson**2) * draw.normal(size=n)
            found = rank_correlation(first, second, apart(n), samples=300)
            # A perfect ranking, one in a hundred with 8 points, has no interval.
            if found.low is not None and found.high is not None:
                given += 1
                covered += found.low <= truth <= found.high
        # Three standard errors of 300 rounds are 4 points; the percentile interval of small samples tends to be wide.
        assert given >= 0.95 * rounds
        assert covered / given >= 0.91


def test_copies_of_a_point_are_no_new_evidence() -> None:
    draw = np.random.default_rng(3)
    x = draw.normal(size=10)
    y = x + draw.normal(size=10)
    once = rank_correlation(x, y, apart(10))
    copied = rank_correlation(np.tile(x, 20), np.tile(y, 20), np.tile(apart(10), 20))
    as_if_independent = rank_correlation(np.tile(x, 20), np.tile(y, 20), apart(200))
    assert copied.rho == pytest.approx(once.rho, abs=1e-12)
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=1e-9)
    assert width_of(as_if_independent) < 0.5 * width_of(copied)


def width_of(found: Correlation) -> float:
    assert found.low is not None and found.high is not None
    return found.high - found.low


def test_a_count_that_goes_with_forgetting_through_the_norm_alone_has_a_partial_coefficient_spanning_zero() -> None:
    draw = np.random.default_rng(4)
    norm = draw.uniform(size=40)
    count = norm + 0.15 * draw.normal(size=40)
    forgetting = norm + 0.15 * draw.normal(size=40)
    plain = rank_correlation(count, forgetting, apart(40))
    given_norm = rank_correlation(count, forgetting, apart(40), norm)
    norm_given_count = rank_correlation(norm, forgetting, apart(40), count)
    assert plain.low is not None and plain.low > 0.5
    assert given_norm.low is not None and given_norm.high is not None and given_norm.low < 0 < given_norm.high
    assert norm_given_count.low is not None and norm_given_count.low > 0


def test_a_count_that_acts_by_itself_keeps_its_coefficient_when_the_norm_is_held_fixed() -> None:
    draw = np.random.default_rng(5)
    norm = draw.uniform(size=40)
    count = norm + 0.3 * draw.normal(size=40)
    forgetting = count + 0.1 * draw.normal(size=40)
    given_norm = rank_correlation(count, forgetting, apart(40), norm)
    norm_given_count = rank_correlation(norm, forgetting, apart(40), count)
    assert given_norm.low is not None and given_norm.low > 0.5
    assert norm_given_count.low is not None and norm_given_count.high is not None
    assert norm_given_count.low < 0 < norm_given_count.high


def test_too_few_clusters_have_no_coefficient() -> None:
    x = np.array([1.0, 2, 3, 4, 5, 7, 6])
    found = rank_correlation(x, np.arange(7.0), apart(7))
    assert found == Correlation(None, note="too few: 7 settings, 8 are needed")
    assert rank_correlation(np.append(x, 8.0), np.arange(8.0), apart(8)).rho is not None
    # Fifty points of five clusters are still five.
    many = rank_correlation(np.arange(50.0), np.arange(50.0)[::-1].copy() % 7, np.arange(50) % 5)
    assert many == Correlation(None, note="too few: 5 settings, 8 are needed")


def test_a_measure_that_varies_in_one_cluster_only_has_no_interval() -> None:
    x = np.zeros(15)
    x[3] = 1.0
    found = rank_correlation(x, np.random.default_rng(0).normal(size=15), apart(15))
    assert found.rho is not None and found.low is None
    assert found.note == "no interval: a measure varies in too few settings"


@pytest.mark.parametrize(
    ("columns", "note"),
    [
        (([1.0, 2.0], [1.0, 2.0], None), "too few: 2 settings, 8 are needed"),
        (([], [], None), "too few: 0 settings, 8 are needed"),
        (([1.0] * 8, [1.0, 2, 3, 4, 5, 6, 7, 8], None), "a measure never varies"),
        (
            ([1.0, 2, 3, 4, 5, 6, 7, 8], [1.0, 3, 2, 4, 5, 6, 8, 7], [2.0, 4, 6, 8, 10, 12, 14, 16]),
            "the two measures rank the points alike",
        ),
    ],
)
def test_what_is_undefined_says_why(columns: tuple[list[float] | None, ...], note: str) -> None:
    x, y, z = (None if column is None else np.array(column) for column in columns)
    assert x is not None and y is not None
    assert rank_correlation(x, y, apart(len(x)), z) == Correlation(None, note=note)


def test_a_noisy_proxy_of_the_norm_makes_a_count_seem_to_act_by_itself() -> None:
    """The partial coefficient of a null: one size moves count and forgetting, and what is held fixed follows it."""
    draw = np.random.default_rng(6)
    found = {1.0: 0, 0.6: 0}
    for reliability in found:
        for seed in range(40):
            size, *noise = draw.normal(size=(4, 24))
            shares = (0.9, 0.9, reliability)
            count, lost, norm = (math.sqrt(r) * size + math.sqrt(1 - r) * e for r, e in zip(shares, noise, strict=True))
            given_norm = rank_correlation(count, lost, apart(24), norm, samples=200, seed=seed)
            found[reliability] += given_norm.low is not None and given_norm.low > 0
    # Measured: 2 % and 97 %.
    assert found[1.0] <= 6 and found[0.6] >= 30
