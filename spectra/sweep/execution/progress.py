"""What a running sweep says of itself, for whoever shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from spectra.sweep.execution.schedule import Job, Outcome, Schedule

Happening = Literal["started", "step", "done", "elsewhere", "retried", "failed"]


@dataclass(frozen=True)
class Event:
    """Something happened to a job.

    Attributes:
        what: "started" with a stage; "step" within the training stage; "done"; "elsewhere" when another process works
            on it; "retried" and "failed" with a message.
        job: The job.
        stage: What is being done now, such as "training" or "scanning".
        step: Optimiser steps done.
        steps: Optimiser steps in all; 0 when not known.
        message: Why it failed.
    """

    what: Happening
    job: Job
    stage: str = ""
    step: int = 0
    steps: int = 0
    message: str = ""


OnEvent = Callable[[Event], None]


def settle(schedule: Schedule, job: Job, outcome: Outcome, on_event: OnEvent) -> None:
    """Tell the schedule and the onlooker how a job ended."""
    if outcome == "done":
        on_event(Event("done", job))
        schedule.done(job)
    elif outcome == "busy":
        on_event(Event("elsewhere", job))
        schedule.busy(job)
    else:
        schedule.put_back(job)
