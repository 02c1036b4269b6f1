"""The worker process: reads jobs as JSON lines, does them, answers with JSON lines; what it prints goes to logs.

Started as `python -m spectra.sweep.execution.worker`. The first line is {"run", "specification", "save_seconds"}; every
further one is {"job", "settings"}, {"stop": true} or {"end": true}. Answers are those of `answers.py`. When its input
closes, because the process that started it is gone, it ends at once; the run folder is whole at any moment.
"""

import json
import os
import queue
import sys
import threading
from typing import Any, TextIO

from spectra.runs import Run
from spectra.sweep.execution.answers import do_and_tell, job_of
from spectra.sweep.spec.specification import Specification
from spectra.sweep.trial.runner import Runner

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
        do_and_tell(runner, job_of(order["job"], order["settings"]), lambda answer: _tell(answers, answer))


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
