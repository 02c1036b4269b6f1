"""What executors of worker processes share: supervisors that dispatch jobs, record dead workers, stop on Ctrl-C."""

import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from spectra.errors import RunError
from spectra.runs import Run
from spectra.sweep.execution.schedule import Event, Job, OnEvent, Schedule


@dataclass
class Supervisor(ABC):
    """Keeps one worker busy, from a thread of its own. An executor says how a job is dispatched.

    Attributes:
        schedule: The jobs.
        run: The run folder.
        on_event: Called from the thread of this supervisor.
        fatal: Why the whole sweep has to end, if it has.
    """

    schedule: Schedule
    run: Run
    on_event: OnEvent
    fatal: str = ""
    stopping: bool = False

    def work(self) -> None:
        """Dispatch jobs until there are none."""
        while job := self.schedule.next_job():
            self.dispatch(job)

    @abstractmethod
    def dispatch(self, job: Job) -> None:
        """Have one job done and tell the schedule how it ended."""

    @abstractmethod
    def stop(self) -> None:
        """Ask for a checkpoint and an end."""

    @abstractmethod
    def kill(self) -> None:
        """End the work at once."""

    def heard(self, job: Job, answer: dict[str, Any]) -> bool:
        """Take one answer of a worker (see `worker.py`).

        Returns:
            Whether the job ended with it.
        """
        if "outcome" not in answer:
            validation = tuple(answer["validation"]) if answer["validation"] else None
            self.on_event(Event(answer["event"], job, answer["stage"], answer["step"], answer["steps"], validation))
            return False
        if answer["outcome"] == "failed":
            self.failed(job, answer["error"], again=bool(answer.get("again")))
        else:
            self.schedule.ended(job, answer["outcome"], self.on_event)
        return True

    def died(self, job: Job, cause: str) -> None:
        """A worker died: the job counts as a failed attempt, unless somebody ended the worker on purpose."""
        if self.stopping:
            self.schedule.put_back(job)
        else:
            self.failed(job, cause, again=True)

    def failed(self, job: Job, error: str, *, again: bool) -> None:
        """Record a failure; without the base's scores nothing can go on."""
        retried = self.schedule.failed(job, error, again=again)
        if job.kind == "base" and not retried:
            self.fatal = error
            self.schedule.stop()
            return
        self.on_event(Event("retried" if retried else "failed", job, message=error))


def work_all(schedule: Schedule, supervisors: Sequence[Supervisor]) -> None:
    """Let all supervisors work, each in a thread.

    The first Ctrl-C lets every worker write a checkpoint and stop; the second ends them at once.

    Raises:
        RunError: If the base model cannot be measured.
        KeyboardInterrupt: After a Ctrl-C, when the workers have stopped.
    """
    with _interrupts() as interrupts, ThreadPoolExecutor(len(supervisors)) as pool:
        working = [pool.submit(supervisor.work) for supervisor in supervisors]
        answered = 0
        while wait(working, timeout=0.2).not_done:
            broken = any(future.done() and future.exception() for future in working)
            if len(interrupts) > answered or broken:
                schedule.stop()
                for supervisor in supervisors:
                    supervisor.stopping = True
                    supervisor.kill() if answered or broken else supervisor.stop()
                answered = len(interrupts)
    for future in working:
        future.result()
    if interrupts:
        raise KeyboardInterrupt
    if fatal := next((supervisor.fatal for supervisor in supervisors if supervisor.fatal), None):
        raise RunError(fatal)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Yield a list that grows with every Ctrl-C, in place of the exception that could strike anywhere."""
    seen: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)
