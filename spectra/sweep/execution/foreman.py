"""What every executor of worker processes shares: foremen that hand out jobs, answer for deaths, and stop on Ctrl-C."""

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
from spectra.sweep.execution.progress import Event, OnEvent, settle
from spectra.sweep.execution.schedule import Job, Schedule


@dataclass
class Foreman(ABC):
    """Keeps one place of work busy, from a thread of its own. An executor says what handing out means.

    Attributes:
        schedule: The jobs.
        run: The run folder.
        on_event: Called from this foreman's thread.
        fatal: Why the whole sweep has to end, if it has.
    """

    schedule: Schedule
    run: Run
    on_event: OnEvent
    fatal: str = ""
    stopping: bool = False

    def work(self) -> None:
        """Hand out jobs until there are none."""
        while job := self.schedule.next_job():
            self.hand_out(job)

    @abstractmethod
    def hand_out(self, job: Job) -> None:
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
            self.on_event(Event(answer["event"], job, answer["stage"], answer["step"], answer["steps"]))
            return False
        if answer["outcome"] == "failed":
            self.failed(job, answer["error"], again=False)
        else:
            settle(self.schedule, job, answer["outcome"], self.on_event)
        return True

    def died(self, job: Job, cause: str) -> None:
        """A worker died: its job is blamed, unless somebody ended the worker on purpose."""
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


def work_all(schedule: Schedule, foremen: Sequence[Foreman]) -> None:
    """Let all foremen work, each in a thread.

    The first Ctrl-C lets every worker write a checkpoint and stop; the second ends them at once.

    Raises:
        RunError: If the base model cannot be measured.
        KeyboardInterrupt: After a Ctrl-C, when the workers have stopped.
    """
    with _interrupts() as interrupts, ThreadPoolExecutor(len(foremen)) as pool:
        working = [pool.submit(foreman.work) for foreman in foremen]
        answered = 0
        while wait(working, timeout=0.2).not_done:
            broken = any(future.done() and future.exception() for future in working)
            if len(interrupts) > answered or broken:
                schedule.stop()
                for foreman in foremen:
                    foreman.stopping = True
                    foreman.kill() if answered or broken else foreman.stop()
                answered = len(interrupts)
    for future in working:
        future.result()
    if interrupts:
        raise KeyboardInterrupt
    if fatal := next((foreman.fatal for foreman in foremen if foreman.fatal), None):
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
