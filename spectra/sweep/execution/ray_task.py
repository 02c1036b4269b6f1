"""One job as a Ray task: a stream of answers, and a checkpoint before the end if the task is cancelled."""

import queue
import signal
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, no_type_check

from spectra.cluster import stand_where_the_driver_stands
from spectra.errors import SpectraError
from spectra.registry import plugin_modules, use_plugins
from spectra.runs import Run
from spectra.sweep.execution.schedule import JobKind
from spectra.sweep.execution.worker import do_and_tell, job_of
from spectra.sweep.spec.specification import Specification
from spectra.sweep.trial.runner import Runner

STEP_SECONDS = 1.0  # between two reports of optimiser steps


@no_type_check  # where annotations are checked at run time, a wrapper would hide from Ray that this is a generator
def do_job(
    folder: str, run: str, specification: str, save_seconds: float, kind: JobKind, trial: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Do one job; yields the answers of `worker.py`.

    Ray cancels a task by an interrupt in its main thread. The job runs in another thread, so that the interrupt only
    raises a flag, which training reads between two steps.

    Args:
        folder: The driver's working folder.
        run: The run folder.
        specification: The sweep, as JSON.
        save_seconds: Time between training checkpoints.
        kind: Kind of the job.
        trial: Its trial.
    """
    answers: queue.Queue[dict[str, Any] | BaseException] = queue.Queue()
    stop = threading.Event()
    before = signal.signal(signal.SIGINT, lambda number, frame: stop.set())

    def work() -> None:
        try:
            stand_where_the_driver_stands(folder, run)
            runner = _runner(run, specification, save_seconds)
            runner.stop = stop.is_set
            do_and_tell(runner, job_of(kind, trial), _seldom(answers.put))
        except SpectraError as error:
            answers.put({"outcome": "failed", "error": str(error)})
        except BaseException as error:  # noqa: BLE001 - raised again in the main thread, where Ray hears of it
            answers.put(error)

    working = threading.Thread(target=work)
    working.start()
    try:
        while True:
            try:
                answer = answers.get(timeout=0.2)  # an interrupt is only noticed between two waits
            except queue.Empty:
                continue
            if isinstance(answer, BaseException):
                raise answer
            yield answer
            if "outcome" in answer:
                return
    finally:
        stop.set()
        working.join()
        signal.signal(signal.SIGINT, before)


@lru_cache(maxsize=1)
def _runner(run: str, specification: str, save_seconds: float) -> Runner:
    """The runner of this worker process, which keeps data and base scores between jobs."""
    use_plugins(plugin_modules())
    return Runner(Run.open(run), Specification.model_validate_json(specification), save_seconds=save_seconds)


def _seldom(tell: Any) -> Any:
    """Pass on everything but optimiser steps that follow one another closely."""
    last = [0.0]

    def pass_on(answer: dict[str, Any]) -> None:
        if answer.get("event") == "step":
            if time.monotonic() - last[0] < STEP_SECONDS:
                return
            last[0] = time.monotonic()
        tell(answer)

    return pass_on
