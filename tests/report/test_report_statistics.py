"""Which coefficients a report has, over which trials, and when it has none."""

import numpy as np
import pandas as pd
import pytest

from spectra.report.tables.statistics import SCORE, Association, association, associations


def table(**columns: list[float | None]) -> pd.DataFrame:
    """Trials of as many configurations."""
    rows = pd.DataFrame(columns).astype("Float64")
    return rows.assign(label=[f"LoRA r={row}" for row in range(len(rows))], learning_rate=1e-3)


def test_counts_that_never_vary_have_no_coefficient() -> None:
    row = association(table(count=[0, 0, 0, 0], forgetting=[0.1, 0.2, 0.3, 0.4]), "prose", "count")
    assert row == Association("prose", "count", "", 4, 4, None, note="intruder count never varies")


def test_trials_without_a_measure_do_not_take_part() -> None:
    counts = [1, 2, 4, 3, 5, 6, 8, 7, None]
    row = association(table(count=counts, forgetting=[1, 2, 3, 4, 5, 6, 7, 8, 9]), "prose", "count")
    assert (row.trials, row.settings, row.rho) == (8, 8, pytest.approx(1 - 6 * 4 / (8 * 63)))
    fewer = association(table(count=[1, None, 3, 2], forgetting=[1, 2, 3, 4]), "prose", "count")
    assert (fewer.trials, fewer.rho) == (3, None)
    assert fewer.note == fewer.verdict == "too few: 3 settings, 8 are needed"


def test_two_trials_are_too_few() -> None:
    row = association(table(count=[1, 2], forgetting=[0.1, 0.2]), "prose", "count")
    assert (row.rho, row.note) == (None, "too few: 2 settings, 8 are needed")


def test_seeds_of_one_configuration_at_one_rate_are_one_setting() -> None:
    draw = np.random.default_rng(0)
    rows = pd.DataFrame(
        [
            {"label": label, "learning_rate": rate, "count": draw.integers(9), "forgetting": draw.uniform()}
            for label in ("LoRA r=1", "LoRA r=8")
            for rate in (1e-4, 1e-3)
            for _ in range(5)
        ]
    )
    row = association(rows, "prose", "count")
    assert (row.trials, row.settings) == (20, 4)
    assert row.rho is None and row.low is None


def test_full_fine_tuning_without_a_stated_rate_is_a_setting_too() -> None:
    rows = table(count=[1, 2, 4, 3], forgetting=[1, 2, 3, 4]).assign(learning_rate=[None, 1e-3, 1e-3, 1e-3])
    assert association(rows, "prose", "count").settings == 4


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 0.5, "interval above zero"),
        (-0.5, -0.1, "interval below zero"),
        (-0.1, 0.5, "interval spans zero"),
        (0.0, 0.5, "interval spans zero"),
    ],
)
def test_the_verdict_is_read_off_the_interval(low: float, high: float, verdict: str) -> None:
    assert Association("prose", "count", "", 9, 9, 0.3, low, high).verdict == verdict


def test_every_held_out_task_and_the_score_get_every_measure() -> None:
    trials = pd.DataFrame(
        {
            "trial": list("abcdefgh"),
            "label": [f"r={rank}" for rank in range(8)],
            "learning_rate": [1e-3] * 8,
            "count": [1, 2, 3, 4, 5, 6, 7, 8],
            "update_relative": [0.3, 0.1, 0.2, 0.5, 0.4, 0.8, 0.7, 0.6],
            "validation_score": [0.5 - 0.01 * step for step in range(8)],
        }
    )
    up = [float(step) for step in range(8)]
    forgetting = pd.DataFrame(
        {"trial": list("abcdefgh") * 2, "heldout": ["x"] * 8 + ["y"] * 8, "forgetting": [*up, *reversed(up)]}
    )
    rows = associations(trials, forgetting)
    pairs = (("count", ""), ("update_relative", ""), ("count", "update_relative"), ("update_relative", "count"))
    assert [(row.target, row.measure, row.controlling_for) for row in rows] == [
        (target, *pair) for target in ("x", "y", SCORE) for pair in pairs
    ]
    assert [row.rho for row in rows if row.measure == "count" and not row.controlling_for] == [1.0, -1.0, -1.0]


def test_without_forgetting_there_is_still_the_score() -> None:
    trials = table(count=[1, 2, 3], validation_score=[1, 3, 2]).assign(trial=["a", "b", "c"])
    empty = pd.DataFrame({"trial": [], "heldout": [], "forgetting": []})
    assert {row.target for row in associations(trials, empty)} == {SCORE}
