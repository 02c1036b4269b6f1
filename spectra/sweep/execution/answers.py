"""What a worker says of a job while it does it and at its end, whatever carries the answers to the driver.

An answer is {"event", "stage", "step", "steps"} while working and {"outcome"} at the end, with {"error"} where the
outcome is "failed", and {"unforeseen"} where nobody knows what state it left the worker in.
"""

import sys
import traceback
from collections.abc import Callable
from typing import Any

from spectra.errors import SpectraError
from spectra.sweep.execution.inline import do
from spectra.sweep.execution.logs import log_of, logged_to, sentence
from spectra.sweep.execution.progress import Event
from spectra.sweep.execution.schedule import Job, JobKind
from spectra.sweep.spec.plan import planned
from spectra.sweep.trial.runner import Runner
from spectra.training.settings import TrainingSettings

Tell = Callable[[dict[str, Any]], None]


def job_of(kind: JobKind, settings: dict[str, Any]) -> Job:
    """The job that an order describes."""
    return Job(kind, planned(TrainingSettings.from_dict(settings)))


def do_and_tell(runner: Runner, job: Job, tell: Tell) -> None:
    """Do a job with its output in the trial's log; a failure becomes an answer, and a bug's traceback stands there."""
    log = log_of(runner.run, job)
    with logged_to(log):
        try:
            outcome = do(runner, job, lambda event: tell(_described(event)))
        except SpectraError as error:
            print(f"Error: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the trial's log
            tell({"outcome": "failed", "error": str(error)})
        except Exception as error:  # noqa: BLE001 - whatever it is, the other trials go on
            traceback.print_exc()
            tell({"outcome": "failed", "error": sentence(error, log), "unforeseen": True})
        else:
            tell({"outcome": outcome})


def _described(event: Event) -> dict[str, Any]:
    return {"event": event.what, "stage": event.stage, "step": event.step, "steps": event.steps}
