"""The worker process: reads jobs as JSON lines, does them, answers with JSON lines; what it prints goes to logs.

Started as `python -m spectra.sweep.execution.worker`. The first line is {"run", "specification", "save_seconds",
"began"}; every further one is {"job", "trial"}, {"stop": true} or {"end": true}. When its input closes, because the
process that started it is gone, it ends at once; the run folder is whole at any moment.

An answer is {"event", "stage", "step", "steps", "validation"} while working and {"outcome"} at the end, with {"error"}
where the outcome is "failed", {"again"} where another attempt may help, and {"unforeseen"} where nobody knows what
state it left the worker in.
"""

import gc
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TextIO

from spectra.errors import SpectraError, log_without_secrets
from spectra.registry import plugin_modules, use_plugins
from spectra.runs import Run
from spectra.sweep.execution.inline import do
from spectra.sweep.execution.logs import log_of, logged_to, sentence, told_traceback
from spectra.sweep.execution.schedule import Event, Job, JobKind
from spectra.sweep.spec.kinds import kind_from_dict
from spectra.sweep.spec.plan import planned
from spectra.sweep.spec.specification import Specification
from spectra.sweep.trial.launched import LaunchDiedError
from spectra.sweep.trial.runner import Runner

ORPHANED = 70

Tell = Callable[[dict[str, Any]], None]


def main() -> None:
    """Do jobs until there are no more."""
    gc.freeze()  # the libraries last as long as the process: the collection before every training passes them over
    log_without_secrets()
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    orders = _Orders(sys.stdin)
    first = orders.next()
    use_plugins(plugin_modules())  # what they register by a call is known from here on
    run = Run.open(first["run"])
    specification = Specification.model_validate(first["specification"])
    runner = Runner(run, specification, orders.stop, first["save_seconds"], time.time() - first["began"])
    while order := orders.next():
        do_and_tell(runner, job_of(order["job"], order["trial"]), lambda answer: _tell(answers, answer))


def job_of(kind: JobKind, trial: dict[str, Any]) -> Job:
    """The job that an order describes."""
    return Job(kind, planned(kind_from_dict(trial)))


def do_and_tell(runner: Runner, job: Job, tell: Tell) -> None:
    """Do a job with its output in the trial's log; a failure becomes an answer, and a bug's traceback stands there."""
    log = log_of(runner.run, job)
    with logged_to(log):
        try:
            outcome = do(runner, job, lambda event: tell(_described(event)))
        except SpectraError as error:
            print(f"Error: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the trial's log
            tell({"outcome": "failed", "error": str(error), "again": isinstance(error, LaunchDiedError)})
        except Exception as error:  # noqa: BLE001 - whatever it is, the other trials go on
            sys.stderr.write(told_traceback())
            tell({"outcome": "failed", "error": sentence(error, log), "unforeseen": True})
        else:
            tell({"outcome": outcome})


def _described(event: Event) -> dict[str, Any]:
    return {
        "event": event.what,
        "stage": event.stage,
        "step": event.step,
        "steps": event.steps,
        "validation": event.validation,
    }


class _Orders:
    """Reads orders in a thread of its own, so that a stop, or the end of the other side, is noticed while training."""

    def __init__(self, stream: TextIO) -> None:
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self._stopping = threading.Event()
        threading.Thread(target=self._listen, args=(stream,), daemon=True).start()

    def next(self) -> dict[str, Any]:
        """The next order; empty when there will be none."""
        return self._queue.get()

    def stop(self) -> bool:
        """Whether a stop was ordered."""
        return self._stopping.is_set()

    def _listen(self, stream: TextIO) -> None:
        for line in stream:
            order = json.loads(line)
            if order.get("stop"):
                self._stopping.set()
            self._queue.put({} if order.get("stop") or order.get("end") else order)
        os._exit(ORPHANED)


def _tell(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
