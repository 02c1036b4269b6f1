import numpy as np
import pandas as pd
import pytest

from spectra.records.counts import counts_by_epsilon, counts_by_k, primary_side, random_direction_cosine

VECTORS = pd.DataFrame(
    {
        "trial": ["a", "a", "a", "a", "b", "b"],
        "name": ["m", "m", "n", "n", "m", "m"],
        "index": [0, 1, 0, 1, 0, 1],
        "lower": [0.9, 0.2, 0.1, 0.7, 0.9, 0.8],
        "upper": [0.9, 0.3, 0.4, 0.8, 0.9, 0.8],
        "is_intruder": [False, True, True, False, False, False],
        "side": ["left"] * 6,
    }
)


def test_counts_are_bracketed_by_the_bounds() -> None:
    table = counts_by_epsilon(VECTORS, ["trial"], [0.25, 0.5, 0.75])
    of_a = table[table["trial"] == "a"]
    assert list(of_a["count"]) == [0, 2, 2]
    assert list(of_a["at_most"]) == [2, 2, 3]
    assert list(table.loc[table["trial"] == "b", "count"]) == [0, 0, 0]
    assert set(table.loc[table["trial"] == "a", "vectors"]) == {4}


def test_the_threshold_itself_does_not_count() -> None:
    table = counts_by_epsilon(VECTORS, ["trial"], [0.8])
    assert list(table["count"]) == [2, 0]


def test_counts_grow_with_k() -> None:
    table = counts_by_k(VECTORS, ["trial"])
    assert list(table.loc[table["trial"] == "a", "count"]) == [1, 2]
    assert list(table.loc[table["trial"] == "a", "vectors"]) == [2, 4]


def test_only_left_vectors_count_when_both_sides_were_scanned() -> None:
    both = pd.concat([VECTORS, VECTORS.assign(side="right", upper=0.0, lower=0.0)])
    assert len(primary_side(both)) == len(VECTORS)
    assert list(counts_by_epsilon(both, ["trial"], [0.5])["count"]) == [2, 0]
    assert len(primary_side(VECTORS.assign(side="right"))) == len(VECTORS)


@pytest.mark.parametrize(("dimension", "n"), [(64, 64), (96, 24), (256, 256)])
def test_the_random_direction_line_agrees_with_drawn_directions(dimension: int, n: int) -> None:
    drawn = np.random.default_rng(0).normal(size=(20_000, dimension))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    # Against orthonormal vectors, a random direction looks as it does against the first n axes.
    largest = np.abs(drawn[:, :n]).max(axis=1)
    # Four standard errors of the simulated mean.
    assert random_direction_cosine(dimension, n) == pytest.approx(largest.mean(), abs=4 * largest.std() / 20_000**0.5)


def test_one_dimension_has_only_one_direction() -> None:
    assert random_direction_cosine(1) == pytest.approx(1.0)
