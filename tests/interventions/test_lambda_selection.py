"""lambda is chosen on validation data, and may be 1."""

from dataclasses import replace
from pathlib import Path

import pytest

from spectra.errors import DataError
from spectra.forgetting import HeldOut, open_held_out
from spectra.interventions import InterventionRow, InterventionRun
from spectra.interventions.lambda_selection import choose_lambda, held_out_validation
from tests import tiny


def row(factor: float, change: float, task_change: float, noise: float = 0.01, heldout: str = "h") -> InterventionRow:
    return InterventionRow(
        trial="", checkpoint="c", arm="intruders", factor=factor, edited_matrices=1, directions=1, edit_norm=0.0,
        update_norm=1.0, update_share=1.0, heldout=heldout, metric="m", unit="u", n=300, base=1.0, tuned=2.0 + change,
        forgetting=1.0 + change, low=0.9, high=1.1, change=change, change_low=change - noise,
        change_high=change + noise, score_name="s", score=0.0, task="t", task_metric="accuracy", task_n=300,
        task_score=0.8 + task_change, task_change=task_change, task_change_low=-1.0, task_change_high=1.0,
    )  # fmt: skip


def record(*rows: InterventionRow) -> InterventionRun:
    return InterventionRun(
        checkpoint="c", base="b", trial="", select="top", share=0.9, k=10, epsilon=0.5, count=1, matrices=1,
        directions=1, treated=("m",), lambdas=(), seed=0, level=0.95, resamples=1, rows=rows, contrasts=(),
    )  # fmt: skip


UNCHANGED = row(1.0, 0.0, 0.0, noise=0.0)


def test_the_factor_that_mends_most_at_little_cost_is_chosen() -> None:
    choice = choose_lambda(record(row(0.0, -0.9, -0.2), row(0.5, -0.4, -0.005), row(0.75, -0.1, 0.0), UNCHANGED))
    assert choice.lam == 0.5
    assert "lowers the held-out loss most (20 % on average) among the 2 factors" in choice.reason


def test_more_may_be_paid_for_more() -> None:
    curve = record(row(0.0, -0.9, -0.2), row(0.5, -0.4, -0.005), UNCHANGED)
    assert choose_lambda(curve, most_drop=0.3).lam == 0.0


@pytest.mark.parametrize("point", [row(0.5, -0.4, -0.05), row(0.5, -0.005, 0.0), row(0.5, 0.4, 0.1)])
def test_nothing_is_changed_where_no_factor_mends_beyond_noise_at_little_cost(point: InterventionRow) -> None:
    choice = choose_lambda(record(point, UNCHANGED))
    assert choice.lam == 1.0
    assert "No factor among 0.5 lowers a held-out loss beyond noise" in choice.reason


def test_mending_one_task_must_not_harm_another() -> None:
    harmed = replace(row(0.5, 0.3, 0.0), heldout="other")
    assert choose_lambda(record(row(0.5, -0.4, 0.0), harmed, UNCHANGED)).lam == 1.0


def test_amplification_is_never_chosen() -> None:
    assert choose_lambda(record(row(1.5, -0.4, 0.1), UNCHANGED)).lam == 1.0


def test_without_a_task_there_is_no_choice() -> None:
    with pytest.raises(DataError, match="lambda is chosen by what it costs on the task"):
        choose_lambda(record(replace(row(0.5, -0.4, 0.0), task_change=None)))


def test_the_validation_split_stands_in_for_the_test_split(tmp_path: Path) -> None:
    held_out = open_held_out(tiny.save_sentiment(tmp_path / "task.jsonl"))
    chosen = held_out_validation(held_out)
    assert held_out.data is not None
    assert list(chosen.test_rows()["text"]) == list(held_out.data.validation["text"])
    assert chosen.name == "task:linear-probe (validation)"
    with pytest.raises(DataError, match="has no validation split of its own"):
        held_out_validation(HeldOut(name="lm-eval:x", measure="lm-eval"))
