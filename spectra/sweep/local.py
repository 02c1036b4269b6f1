"""The default executor: worker processes on this machine, one per device, one job at a time each.

A worker that dies takes only its own job with it: the job is blamed, tried again at most twice, then recorded as
failed, and the rest goes on in a new worker.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra.errors import RunError
from spectra.runs import Run
from spectra.sweep.progress import Event, OnEvent, settle
from spectra.sweep.schedule import Job, Schedule
from spectra.sweep.specification import Specification


def run_local(
    schedule: Schedule,
    run: Run,
    specification: Specification,
    on_event: OnEvent,
    *,
    workers: int | None = None,
    save_seconds: float = 120.0,
) -> None:
    """Do all jobs in worker processes.

    The first Ctrl-C lets every worker write a checkpoint and stop; the second ends them at once.

    Args:
        schedule: The jobs.
        run: The run folder.
        specification: The sweep.
        on_event: Called from the threads that watch the workers.
        workers: How many; None starts one per GPU, or one on a machine without.
        save_seconds: Time between training checkpoints.

    Raises:
        RunError: If the base model cannot be measured.
        KeyboardInterrupt: After a Ctrl-C, when the workers have stopped.
    """
    devices = _devices(workers)
    first = {
        "run": str(run.path),
        "specification": specification.model_dump(mode="json", exclude_unset=True),
        "save_seconds": save_seconds,
    }
    foremen = [_Foreman(schedule, run, on_event, first, environment) for environment in devices]
    with _interrupts() as interrupts, ThreadPoolExecutor(len(foremen)) as pool:
        working = [pool.submit(foreman.work) for foreman in foremen]
        answered = 0
        while wait(working, timeout=0.2).not_done:
            broken = any(future.done() and future.exception() for future in working)
            if len(interrupts) > answered or broken:
                schedule.stop()
                for foreman in foremen:
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


def _devices(workers: int | None) -> list[dict[str, str]]:
    """What each worker's environment adds: the one GPU that it sees."""
    import torch

    gpus = torch.cuda.device_count()
    if not gpus:
        return [{}] * (workers or 1)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
    return [{"CUDA_VISIBLE_DEVICES": visible[position % gpus]} for position in range(workers or gpus)]


@dataclass
class _Foreman:
    """Keeps one worker busy, from a thread of its own."""

    schedule: Schedule
    run: Run
    on_event: OnEvent
    first: dict[str, Any]
    environment: dict[str, str]
    fatal: str = ""
    _process: "subprocess.Popen[str] | None" = None
    _stopping: bool = False

    def work(self) -> None:
        """Hand out jobs until there are none; no worker outlives this."""
        finished = False
        try:
            while job := self.schedule.next_job():
                self._hand_out(job)
            finished = True
        finally:
            if self._process:
                self._send(self._process, {"end": True})
                if not finished:
                    self._process.kill()
                self._process.wait()

    def _hand_out(self, job: Job) -> None:
        process = self._worker()
        self._send(process, {"job": job.kind, "settings": job.trial.settings.to_dict()})
        answer = self._listen(process, job)
        if answer is None:
            self._died(process, job)
        elif answer["outcome"] == "failed":
            self._failed(job, answer["error"], again=False)
        else:
            settle(self.schedule, job, answer["outcome"], self.on_event)

    def stop(self) -> None:
        """Ask the worker to write a checkpoint and stop."""
        self._stopping = True
        if self._process:
            self._send(self._process, {"stop": True})

    def kill(self) -> None:
        """End the worker at once."""
        self._stopping = True
        if self._process:
            self._process.kill()

    def _worker(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            self.run.log.parent.mkdir(parents=True, exist_ok=True)
            with self.run.log.open("a") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "spectra.sweep.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **self.environment},
                    start_new_session=True,  # a Ctrl-C in the terminal reaches this process alone
                )
            self._send(self._process, self.first)
        return self._process

    def _send(self, process: "subprocess.Popen[str]", order: dict[str, Any]) -> None:
        """A worker that is gone by now is noticed by whoever listens to it."""
        if process.stdin is None:
            return
        try:
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return

    def _listen(self, process: "subprocess.Popen[str]", job: Job) -> dict[str, Any] | None:
        """Pass events on until the job ends; None if the worker died."""
        for line in process.stdout or ():
            answer: dict[str, Any] = json.loads(line)
            if "outcome" in answer:
                return answer
            self.on_event(Event(answer["event"], job, answer["stage"], answer["step"], answer["steps"]))
        return None

    def _died(self, process: "subprocess.Popen[str]", job: Job) -> None:
        if self._stopping:
            self.schedule.put_back(job)
            return
        self._failed(
            job,
            _cause(process.wait(), self.run.log if job.kind == "base" else self.run.trial(job.trial.id).log),
            again=True,
        )

    def _failed(self, job: Job, error: str, *, again: bool) -> None:
        if job.kind == "base":
            self.fatal = error
            self.schedule.stop()
            return
        retried = self.schedule.failed(job, error, again=again)
        self.on_event(Event("retried" if retried else "failed", job, message=error))


def _cause(code: int, log: Path) -> str:
    """Why a worker died, as far as its exit code and the last line of its log tell."""
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
        return f"The worker was ended by {name}{hint}. Run the sweep again."
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.exists() else []
    return f"The worker ended with code {code}: {lines[-1] if lines else 'no message'}. Read '{log}'."
