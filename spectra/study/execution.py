"""All interventions of a study: in this process, in processes of their own, or as Ray tasks.

The run folder is the only state: whatever ends one, the next call goes on with the points that are stored, and several
calls may work on one folder at the same time.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from spectra.cluster import joined, passed_on, places, stand_where_the_driver_stands
from spectra.runs import Run
from spectra.storage.atomic import write_json
from spectra.storage.destinations import mark
from spectra.study.intervention_job import FAILED, Interventions, intervention_folder, is_settled
from spectra.study.progress import OnProgress, Pace
from spectra.study.specification import StudySpecification
from spectra.sweep.sweep import Executor

MOST_AT_ONCE = 64  # interventions handed to Ray at the same time


@dataclass(frozen=True)
class Means:
    """Where the work is done; the meaning of each field is that of `run_sweep`."""

    executor: Executor = "local"
    workers: int | None = None
    ray: str = "auto"
    cpus: float = 1.0
    gpus: float | None = None


def treat_all(
    run: Run, specification: StudySpecification, trials: Sequence[str], means: Means, tell: OnProgress
) -> None:
    """Do the interventions on these trials that have not ended yet."""
    left = [trial for trial in trials if not is_settled(run, trial)]
    pace = Pace(len(left), tell)
    if not left:
        return
    if means.executor == "inline":
        work = Interventions(run, specification)
        for trial in left:
            pace.ended(trial, work.do(trial, lambda done, of, trial=trial: pace.point(trial, done, of)))  # type: ignore[misc]
    elif means.executor == "ray":
        _on_ray(run, left, means, pace)
    else:
        _Processes(run, pace).work(left, means.workers or 1)


@dataclass
class _Processes:
    """One process per intervention: what one does to its memory, none of the others feels."""

    run: Run
    pace: Pace
    _lock: Lock = field(default_factory=Lock)
    _running: "set[subprocess.Popen[str]]" = field(default_factory=set)
    _stopping: bool = False

    def work(self, trials: Sequence[str], workers: int) -> None:
        with ThreadPoolExecutor(workers) as pool:
            jobs = [pool.submit(self._one, trial) for trial in trials]
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                self._stopping = True
                for job in jobs:
                    job.cancel()
                for process in list(self._running):
                    process.terminate()
                raise

    def _one(self, trial: str) -> None:
        if self._stopping:
            return
        log = self.run.trial(trial).log
        log.parent.mkdir(parents=True, exist_ok=True)
        outcome = ""
        with log.open("a", encoding="utf-8") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "spectra.study.worker", str(self.run.path), trial],
                stdout=subprocess.PIPE,
                stderr=stream,
                text=True,
                env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
                start_new_session=True,  # a Ctrl-C in the terminal reaches this process alone
            )
            self._running.add(process)
            for line in process.stdout or ():
                news = json.loads(line)
                outcome = news.get("outcome", outcome)
                if "point" in news:
                    with self._lock:
                        self.pace.point(trial, news["point"], news["points"])
            process.wait()
            self._running.discard(process)
        if self._stopping:
            return
        if not outcome:
            outcome = FAILED
            store_failure(self.run, trial, f"its process ended with code {process.returncode}; read '{log}'")
        with self._lock:
            self.pace.ended(trial, outcome)


def store_failure(run: Run, trial: str, reason: str) -> None:
    """Keep why the intervention on a trial failed; the next call tries it again."""
    folder = intervention_folder(run, trial)
    mark(folder, "intervene")
    write_json(folder / "outcome.json", {"outcome": FAILED, "reason": reason})


def do_on_node(folder: str, run: str, trial: str) -> str:
    """One intervention as a Ray task."""
    from spectra.study.registration import registered

    stand_where_the_driver_stands(folder, run)
    specification = StudySpecification.model_validate(registered(Path(run))["specification"])
    return Interventions(Run.open(run), specification).do(trial)


def _on_ray(run: Run, trials: Sequence[str], means: Means, pace: Pace) -> None:
    """One Ray task per intervention, on whichever node has room for it."""
    with joined(means.ray) as ray:
        room = places(ray, means.cpus, means.gpus)
        task = ray.remote(do_on_node).options(
            num_cpus=room.cpus, num_gpus=room.gpus, max_retries=2, runtime_env=passed_on()
        )
        waiting, running = list(trials), dict[Any, str]()
        at_once = min(means.workers or MOST_AT_ONCE, MOST_AT_ONCE)
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    trial = waiting.pop(0)
                    running[task.remote(str(Path.cwd()), str(run.path.resolve()), trial)] = trial
                [ended], _ = ray.wait(list(running))
                trial, outcome = running.pop(ended), FAILED
                try:
                    outcome = ray.get(ended)
                except ray.exceptions.RayError as error:
                    store_failure(run, trial, f"its task ended with {str(error).strip().splitlines()[-1]}")
                pace.ended(trial, outcome)
        finally:
            for left in running:
                with suppress(ray.exceptions.RayError):
                    ray.cancel(left, force=True)
