"""Hopeless learning rates are stopped by one rule, in any order of the trials, and stand in no figure."""

import itertools
from pathlib import Path
from typing import Any

import pytest

from spectra.errors import SpecificationError
from spectra.report import write_report
from spectra.runs import Run
from spectra.runs.status import status
from spectra.sweep import read_specification, run_sweep
from spectra.sweep.execution.schedule import Job, Schedule
from spectra.sweep.spec.plan import PlannedTrial, plan
from spectra.sweep.trial.halving import next_pause
from tests import tiny

GIVEN: dict[str, Any] = {
    "base": "tiny",
    "task": "task.jsonl",
    "methods": [{"method": "lora", "rank": 1, "learning_rate": [1e-4, 1e-3, 1e-2]}],
    "seeds": [0, 1],
    "steps": 30,
    "early_stopping": [10, 20],
}
# By learning rate: 1e-3 is best at step 10 and 1e-2 at step 20; 1e-4 leads at one seed alone.
SCORES = {1e-4: {10: (-1.0, -9.0), 20: (0.0, 0.0)}, 1e-3: {10: (-2.0, -2.0), 20: (-1.5, -1.5)},
          1e-2: {10: (-3.0, -3.0), 20: (-0.5, -0.5)}}  # fmt: skip


@pytest.fixture
def trials() -> tuple[PlannedTrial, ...]:
    return plan(read_specification(GIVEN))


def worked_off(folder: Path, trials: tuple[PlannedTrial, ...], order: tuple[int, ...], workers: int) -> Run:
    """What a schedule does with trials whose scores are known; so many are under way at once, and end in any order."""
    run = Run.create(folder, {"specification": GIVEN}, same={})
    schedule = Schedule(run, tuple(trials[place] for place in order), "adapters")
    base = schedule.next_job()
    assert base is not None
    schedule.done(base)
    under_way: list[Job] = []
    while True:
        while len(under_way) < workers and schedule._waiting:
            job = schedule.next_job()
            assert job is not None
            under_way.append(job)
        if not under_way:
            return run
        job = under_way.pop(len(under_way) // 2)
        one = run.trial(job.trial.id)
        pause = next_pause(one, GIVEN["early_stopping"])
        rate, seed = job.trial.learning_rate, job.trial.seed
        assert rate is not None and seed is not None
        if job.kind == "test":
            one.write_test({})
            schedule.done(job)
        elif pause is None:
            one.write_metrics({"validation_score": SCORES[rate][20][seed]})
            one.finish()
            schedule.done(job)
        else:
            one.score_on_the_way(pause, SCORES[rate][pause][seed])
            schedule.paused(job)


def test_the_better_half_goes_on_whatever_the_order_and_the_number_of_workers(
    trials: tuple[PlannedTrial, ...], tmp_path: Path
) -> None:
    orders = [tuple(range(6)), (5, 4, 3, 2, 1, 0), (3, 0, 5, 1, 4, 2)]
    for number, (order, workers) in enumerate(itertools.product(orders, (1, 2, 6))):
        run = worked_off(tmp_path / str(number), trials, order, workers)
        where = {
            (trial.learning_rate, trial.seed): (run.trial(trial.id).stopped_at, run.trial(trial.id).is_finished)
            for trial in trials
        }
        assert where == {
            **{(1e-4, seed): (10, False) for seed in (0, 1)},
            **{(1e-3, seed): (20, False) for seed in (0, 1)},
            **{(1e-2, seed): (None, True) for seed in (0, 1)},
        }
        why = run.trial(next(trial.id for trial in trials if trial.learning_rate == 1e-4)).why_stopped
        assert why == (
            "Trial stopped early at step 10 because its learning rate 0.0001 had a mean validation score of -5, and "
            "the better half had -2 at 0.001, -3 at 0.01."
        )
        assert all(run.trial(trial.id).test is not None for trial in trials if trial.learning_rate == 1e-2)


def test_a_rate_that_failed_does_not_hold_up_the_others(trials: tuple[PlannedTrial, ...], tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", {"specification": GIVEN}, same={})
    schedule = Schedule(run, trials, "adapters")
    base = schedule.next_job()
    assert base is not None
    schedule.done(base)
    jobs = [schedule.next_job() for _ in trials]
    for job in jobs[:-1]:
        assert job is not None and job.trial.learning_rate is not None and job.trial.seed is not None
        run.trial(job.trial.id).score_on_the_way(10, SCORES[job.trial.learning_rate][10][job.trial.seed])
        schedule.paused(job)
    assert jobs[-1] is not None and jobs[-1].trial.learning_rate == 1e-2
    schedule.failed(jobs[-1], "The loss is nan.", again=False)
    # A rate that failed at a seed is passed over while others never did.
    assert [run.trial(trial.id).stopped_at for trial in trials] == [None, None, None, None, 10, None]


def test_a_sweep_stops_hopeless_rates_and_says_so(tmp_path: Path) -> None:
    given = {
        "base": tiny.save_model(tmp_path / "bert", "bert"),
        "task": tiny.save_sentiment(tmp_path / "task.jsonl", 120),
        "methods": [{"method": "lora", "rank": 2, "learning_rate": [1e-6, 3e-2]}],
        "steps": 12,
        "early_stopping": [8],
        "batch_size": 4,
        "max_length": 16,
        "trajectory": 0,
        "controls": False,
        "head_learning_rate": 1e-6,
    }
    run = run_sweep(given, tmp_path / "run", executor="inline")
    table = run.table("trials").set_index("learning_rate")
    assert table["status"].to_dict() == {1e-6: "stopped early", 3e-2: "done"}
    assert table["chosen"].to_dict() == {1e-6: False, 3e-2: True}
    assert table.loc[1e-6, "error"].startswith("Trial stopped early at step 8 because its learning rate 1e-06 had")
    assert table.loc[1e-6, ["validation_score", "count"]].isna().all()
    assert set(run.table("timings")["trial"]) == set(table["trial"])
    assert sorted(row["state"] for row in status(run.path)) == ["done", "stopped early"]
    assert "1 of 2 trials were stopped early" in write_report(run.path).read_text()
    [stopped] = [trial for trial in run.trials() if trial.stopped_at]
    assert not stopped.training.exists()
    before = {path: path.stat().st_mtime_ns for path in run.path.glob("trials/*/*.json")}
    again = run_sweep(given, tmp_path / "run", executor="inline")
    assert {path: path.stat().st_mtime_ns for path in again.path.glob("trials/*/*.json")} == before


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"early_stopping": [30]}, "early_stopping has step 30, and the training has 30 steps"),
        ({"early_stopping": [0]}, "greater than 0"),
        ({"steps": None, "epochs": 1.0}, "give steps instead of epochs"),
        ({"task": None, "tasks": ["a.jsonl", "b.jsonl"]}, "early_stopping compares trainings on one task"),
        ({"validation_metric": "rouge-l"}, "is measured at the end of training; remove early_stopping"),
    ],
)
def test_an_early_stop_that_cannot_be_is_refused(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SpecificationError, match=sentence):
        read_specification({**GIVEN, **changed})
