"""The default executor: worker processes on this machine, one per device, one job at a time each.

A worker that dies takes only its own job with it: the job is tried again at most twice, then recorded as
failed, and the rest goes on in a new worker.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spectra.errors import RunError
from spectra.runs import Run
from spectra.sweep.execution.logs import last_words, log_of
from spectra.sweep.execution.schedule import Job, OnEvent, Schedule
from spectra.sweep.execution.supervisor import Supervisor, work_all
from spectra.sweep.spec.plan import plan
from spectra.sweep.spec.specification import Specification

THREADS = "OMP_NUM_THREADS"


def run_local(
    schedule: Schedule,
    run: Run,
    specification: Specification,
    on_event: OnEvent,
    *,
    workers: int | None = None,
    gpus: float | None = None,
    save_seconds: float = 120.0,
) -> None:
    """Do all jobs in worker processes.

    Args:
        schedule: The jobs.
        run: The run folder.
        specification: The sweep.
        on_event: Called from the threads that watch the workers.
        workers: How many; None starts one per trial that the GPUs hold at once, or one on a machine without.
        gpus: GPUs that a trial takes; None means one.
        save_seconds: Time between training checkpoints.

    Raises:
        RunError: If the base model cannot be measured.
        KeyboardInterrupt: After a Ctrl-C, when the workers have stopped.
    """
    first = {
        "run": str(run.path),
        "specification": specification.model_dump(mode="json", exclude_unset=True),
        "save_seconds": save_seconds,
    }
    devices = devices_of_workers(workers, gpus or 1.0)
    work_all(schedule, [_ProcessSupervisor(schedule, run, on_event, first=first, environment=each) for each in devices])


def gpus_of_the_largest_launch(specification: Specification) -> float | None:
    """As many as its processes; None where no trial is launched on GPUs."""
    launches = [trial.training.launch for trial in plan(specification) if trial.training is not None]
    return max((float(one.processes) for one in launches if one is not None and not one.on_cpu), default=None)


def devices_of_workers(workers: int | None, per_trial: float) -> list[dict[str, str]]:
    """What each worker's environment adds: the GPUs that it sees, or its share of the cores.

    Raises:
        RunError: If the machine has fewer GPUs than a trial takes.
    """
    import torch

    gpus = torch.cuda.device_count()
    if not gpus:
        return [_own_threads(workers or 1)] * (workers or 1)
    own = max(1, math.ceil(per_trial))
    if own > gpus:
        raise RunError(f"A trial takes {own} GPUs, and this machine has {gpus}. Ask for fewer --gpus-per-trial.")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
    places = [visible[start : start + own] for start in range(0, gpus - own + 1, own)]
    if per_trial < 1:
        places = [place for place in places for _ in range(math.floor(1 / per_trial))]
    return [
        {"CUDA_VISIBLE_DEVICES": ",".join(places[position % len(places)])} for position in range(workers or len(places))
    ]


def _own_threads(workers: int) -> dict[str, str]:
    """Several workers that each use every core would wait for one another."""
    if workers == 1 or THREADS in os.environ:
        return {}
    return {THREADS: str(max(1, (os.cpu_count() or 1) // workers))}


@dataclass
class _ProcessSupervisor(Supervisor):
    """Keeps one worker process, which does one job after another."""

    first: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    _process: "subprocess.Popen[str] | None" = None

    def work(self) -> None:
        """Dispatch jobs until there are none; no worker outlives this."""
        finished = False
        try:
            super().work()
            finished = True
        finally:
            if self._process:
                self._send(self._process, {"end": True})
                if not finished:
                    self._process.kill()
                self._process.wait()

    def dispatch(self, job: Job) -> None:
        process = self._worker()
        self._send(process, {"job": job.kind, "trial": job.trial.kind.to_dict()})
        for line in process.stdout or ():
            answer = json.loads(line)
            if self.heard(job, answer):
                if answer.get("unforeseen"):  # after an error on a GPU nothing works any more
                    self._send(process, {"end": True})
                    process.wait()
                return
        self.died(job, _cause(process.wait(), log_of(self.run, job), self.run.log))

    def stop(self) -> None:
        if self._process:
            self._send(self._process, {"stop": True})

    def kill(self) -> None:
        if self._process:
            self._process.kill()

    def _worker(self) -> "subprocess.Popen[str]":
        if self._process is None or self._process.poll() is not None:
            self.run.log.parent.mkdir(parents=True, exist_ok=True)
            with self.run.log.open("a") as log:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "spectra.sweep.execution.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **self.environment},
                    start_new_session=True,  # a Ctrl-C in the terminal reaches this process alone
                )
            self._send(self._process, {**self.first, "began": time.time()})
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


def _cause(code: int, log: Path, of_the_run: Path) -> str:
    """Why a worker died, as far as its exit code and its logs tell."""
    if code < 0:
        name = signal.Signals(-code).name
        hint = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
        return f"The worker was ended by {name}{hint}. Run the sweep again."
    return f"The worker ended with code {code}: {last_words(of_the_run, log)}. Read '{log}' and '{of_the_run}'."
