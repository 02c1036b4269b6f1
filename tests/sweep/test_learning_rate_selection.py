"""Which learning rate and which configuration is best, where seeds are missing or failed."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectra.advice.evidence import _looked_at
from spectra.sweep.trial.learning_rate_selection import best_by_mean, best_configuration

Scores = dict[float, dict[int, float | None]]


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({1e-3: {0: 0.8}, 1e-2: {0: 0.9}}, 1e-2),
        ({1e-5: {0: 0.48, 1: 0.5, 2: 0.5}, 1e-2: {0: 1.0}}, 1e-2),  # more seeds are no merit
        ({1e-5: {0: 0.9, 1: 0.1, 2: 0.1}, 1e-2: {0: 0.8}}, 1e-5),  # on seed 0, which both have
        ({1e-5: {0: 0.6, 1: 0.6}, 1e-2: {1: 0.5, 2: 1.0}}, 1e-5),
        ({1e-3: {0: 0.5}, 1e-2: {0: 0.9, 1: None}}, 1e-3),  # it failed at a seed
        ({1e-3: {0: 0.5, 1: None}, 1e-2: {0: 0.9, 1: None}}, 1e-2),
        ({1e-4: {0: 0.5, 1: 0.5}, 1e-3: {0: 0.6, 1: 0.6}, 1e-2: {7: 1.0}}, 1e-3),  # seed 7 compares with nothing
        ({1e-3: {0: 0.7}, 1e-2: {0: 0.7}}, 1e-3),
        ({1e-3: {0: float("-inf")}}, 1e-3),  # a checkpoint without a task
        ({1e-3: {}, 1e-2: {0: None}}, None),
    ],
)
def test_the_best_mean_over_common_seeds_wins(scores: Scores, best: float | None) -> None:
    assert best_by_mean(scores) == best


@given(st.dictionaries(st.integers(0, 4), st.floats(0, 1), min_size=1), st.integers(5, 9), st.floats(0, 1))
def test_a_further_seed_at_one_rate_changes_no_choice(common: dict[int, float], seed: int, score: float) -> None:
    worse = {one: value - 0.1 for one, value in common.items()}
    assert best_by_mean({1e-3: {**worse, seed: score}, 1e-2: common}) == 1e-2
    assert best_by_mean({1e-3: worse, 1e-2: {**common, seed: score}}) == 1e-2


def test_the_best_configuration_is_not_the_one_with_the_luckiest_seed() -> None:
    rows = [("steady", 0, 0.8), ("steady", 1, 0.8), ("lucky", 0, 0.1), ("lucky", 1, 0.9)]
    table = pd.DataFrame(
        [
            {"label": name, "seed": seed, "validation_score": s, "status": "done", "chosen": True}
            for name, seed, s in rows
        ]
    )
    assert best_configuration(table)["label"].unique().tolist() == ["steady"]
    looked_at = _looked_at(table)
    assert looked_at is not None
    assert (looked_at["label"], looked_at["seed"]) == ("steady", 0)
    assert best_configuration(table.assign(chosen=False)).empty
