import math
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectra.records.pairs import matched_pairs


def trials(*rows: tuple[str, str, int, float, float, bool]) -> pd.DataFrame:
    """Trials as (name, method, seed, validation score, norm, chosen)."""
    names = ("trial", "method", "seed", "validation_score", "update_frobenius", "chosen")
    table = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])
    return table.assign(label=table["trial"], status="done", learning_rate=1e-3, count=range(len(rows)))


def lost(**values: float) -> pd.DataFrame:
    columns = ["trial", "heldout", "forgetting"]
    return pd.DataFrame([(name, "news", value) for name, value in values.items()], columns=columns)


SWEEP = trials(
    ("small", "full", 0, 0.60, 1.0, False),
    ("best", "full", 0, 0.90, 4.0, True),
    ("large", "full", 0, 0.70, 16.0, False),
    ("other", "full", 1, 0.80, 9.0, True),
    ("lora", "lora", 0, 0.72, 3.0, True),
    ("worse", "lora", 0, 0.50, 9.0, False),
)


def test_an_adapter_stands_beside_the_chosen_the_as_good_and_the_as_large_full_trial() -> None:
    pairs = matched_pairs(SWEEP, lost(lora=0.1, best=0.2, large=0.3, other=9.0)).set_index("matched_on")
    assert pairs["trial"].tolist() == ["lora"] * 3
    assert pairs["full_trial"].to_dict() == {"budget": "best", "score": "large", "norm": "best"}
    assert pairs["gap"].to_dict() == pytest.approx({"budget": 0.0, "score": 0.02, "norm": math.log(4 / 3)})
    assert pairs["forgetting"].tolist() == [0.1] * 3
    assert pairs["full_forgetting"].to_dict() == {"budget": 0.2, "score": 0.3, "norm": 0.2}
    assert pairs.loc["norm", ["norm", "full_norm"]].tolist() == [3.0, 4.0]


def test_seeds_are_never_mixed() -> None:
    assert "other" not in set(matched_pairs(SWEEP, lost())["full_trial"])
    alone = SWEEP[SWEEP["seed"] == 0].assign(seed=lambda table: [5 if name == "lora" else 0 for name in table["trial"]])
    assert matched_pairs(alone, lost()).empty


def test_without_held_out_tasks_or_full_fine_tuning_nothing_is_made_up() -> None:
    pairs = matched_pairs(SWEEP, pd.DataFrame(columns=["trial", "heldout", "forgetting"]))
    assert pairs["heldout"].tolist() == [""] * 3
    assert matched_pairs(SWEEP[SWEEP["method"] == "lora"], lost()).empty


def test_an_update_of_no_size_is_matched_on_no_norm() -> None:
    table = SWEEP.assign(update_frobenius=0.0)
    assert matched_pairs(table, lost())["matched_on"].tolist() == ["budget", "score"]


def test_failed_trials_take_no_part() -> None:
    table = SWEEP.assign(status=["failed" if name == "large" else "done" for name in SWEEP["trial"]])
    assert "large" not in set(matched_pairs(table, lost())["full_trial"])


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 100)), min_size=1, max_size=6), st.floats(0, 1))
def test_no_other_full_trial_is_nearer(full: list[tuple[float, float]], score: float) -> None:
    rows: list[Any] = [(f"f{i}", "full", 0, s, d, i == 0) for i, (s, d) in enumerate(full)]
    pairs = matched_pairs(trials(*rows, ("lora", "lora", 0, score, 2.0, True)), lost()).set_index("matched_on")
    assert pairs.loc["score", "gap"] == min(abs(s - score) for s, _ in full)
    assert pairs.loc["norm", "gap"] == pytest.approx(min(abs(math.log(d / 2.0)) for _, d in full))
