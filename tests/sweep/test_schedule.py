"""Who is blamed, how often, and what is handed out next; no trial is run."""

from pathlib import Path
from typing import Any

import pytest

from spectra.runs import Run
from spectra.sweep import read_specification
from spectra.sweep.execution.schedule import LOSSES, Job, Schedule
from spectra.sweep.spec.plan import plan

GIVEN: dict[str, Any] = {
    "base": "tiny",
    "task": "task.jsonl",
    "methods": [{"method": "lora", "rank": [1, 2], "learning_rate": 1e-3}],
    "steps": 1,
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", {"specification": GIVEN}, same={})


def after_the_base(run: Run) -> tuple[Schedule, Job]:
    """A schedule whose base is measured, and its first trial, handed out."""
    schedule = Schedule(run, plan(read_specification(GIVEN)), "adapters")
    base = schedule.next_job()
    assert base is not None
    assert base.kind == "base"
    schedule.done(base)
    trial = schedule.next_job()
    assert trial is not None
    return schedule, trial


def test_a_trial_is_tried_three_times_and_then_recorded_while_the_rest_goes_on(run: Run) -> None:
    schedule, trial = after_the_base(run)
    assert schedule.failed(trial, "first", again=True)
    other = schedule.next_job()
    assert other is not None
    assert other != trial
    assert schedule.next_job() == trial
    assert schedule.failed(trial, "second", again=True)
    assert schedule.next_job() == trial
    assert not schedule.failed(trial, "third", again=True)
    assert run.trial(trial.trial.id).failure == {"error": "third", "attempts": 3}
    assert not schedule.stopped


def test_a_lost_job_is_dispatched_again_without_blame_but_not_for_ever(run: Run) -> None:
    schedule, trial = after_the_base(run)
    schedule.next_job()
    for _ in range(LOSSES):
        assert schedule.lost(trial)
        assert schedule.next_job() == trial
    assert not schedule.lost(trial)
    assert run.trial(trial.trial.id).failure is None


def test_the_base_is_tried_three_times_and_leaves_no_mark_on_a_trial(run: Run) -> None:
    schedule = Schedule(run, plan(read_specification(GIVEN)), "adapters")
    answers = []
    for _ in range(3):
        base = schedule.next_job()
        assert base is not None
        answers.append(schedule.failed(base, "killed", again=True))
    assert answers == [True, True, False]
    assert schedule.next_job() is None
    assert not list(run.path.rglob("failure.json"))
