"""The worker process: reads jobs as JSON lines, does them, answers with JSON lines; what it prints goes to logs.

Started as `python -m spectra.sweep.worker`. The first line is {"run", "specification", "save_seconds"}; every further
one is {"job", "settings"}, {"stop": true} or {"end": true}. Answers are {"event": ...} while working and
{"outcome": ...} at the end. When its input closes, because the process that started it is gone, it ends at once; the
run folder is whole at any moment.
"""

import json
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any, TextIO

from spectra.errors import SpectraError
from spectra.runs import Run
from spectra.sweep.inline import do
from spectra.sweep.plan import planned
from spectra.sweep.progress import Event
from spectra.sweep.runner import Runner
from spectra.sweep.schedule import Job
from spectra.sweep.specification import Specification
from spectra.training.settings import TrainingSettings

ORPHANED = 70


def main() -> None:
    """Do jobs until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    orders = _Orders(sys.stdin)
    first = orders.next()
    run = Run.open(first["run"])
    runner = Runner(run, Specification.model_validate(first["specification"]), orders.stop, first["save_seconds"])
    while order := orders.next():
        job = Job(order["job"], planned(TrainingSettings.from_dict(order["settings"])))
        _log_to(run.trial(job.trial.id).log if job.kind != "base" else run.log)
        try:
            outcome = do(runner, job, lambda event: _tell(answers, _described(event)))
        except SpectraError as error:
            print(f"Error: {error}", file=sys.stderr, flush=True)  # noqa: T201 - the trial's log
            _tell(answers, {"outcome": "failed", "error": str(error)})
        else:
            _tell(answers, {"outcome": outcome})


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


def _described(event: Event) -> dict[str, Any]:
    return {"event": event.what, "stage": event.stage, "step": event.step, "steps": event.steps}


def _tell(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def _log_to(path: Path) -> None:
    """Send everything printed from now on, by Python or below it, to a log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


if __name__ == "__main__":
    main()
