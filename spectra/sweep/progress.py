"""What a running sweep says of itself, for whoever shows it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from spectra.sweep.schedule import Job

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
