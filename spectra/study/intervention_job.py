"""One job of a study: the intervention on one trial, stored point by point in the trial's folder."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from spectra.data import TaskData, load_task
from spectra.engine.cache import FactorCache
from spectra.errors import SpectraError
from spectra.forgetting import HeldOut
from spectra.interventions import OwnTask, experiment
from spectra.runs import Run
from spectra.runs.lock import try_lock
from spectra.storage.atomic import read_json, write_json
from spectra.storage.destinations import mark
from spectra.study.specification import StudySpecification
from spectra.sweep.trial.held_out import HeldOutTasks

OnPoint = Callable[[int, int], None]  # points done, all
DONE, NOTHING, LEFT_OUT, FAILED, BUSY = "done", "nothing to treat", "left out", "failed", "busy"


def intervention_folder(run: Run, trial: str) -> Path:
    """Where the intervention on a trial lies."""
    return run.trial(trial).path / "interventions"


def outcome_of(run: Run, trial: str) -> dict[str, Any] | None:
    """How the intervention on a trial ended: "outcome" and "reason"; None if it has not ended."""
    path = intervention_folder(run, trial) / "outcome.json"
    return read_json(path) if path.is_file() else None


def is_settled(run: Run, trial: str) -> bool:
    """Whether nothing is left to do: a failure is tried again by the next call."""
    ended = outcome_of(run, trial)
    return ended is not None and ended["outcome"] != FAILED


@dataclass
class Interventions:
    """Does the interventions of one study; data are opened once and kept.

    Attributes:
        run: The run folder.
        specification: The study.
        cache: Where factors of the base are kept between trials.
    """

    run: Run
    specification: StudySpecification
    cache: FactorCache = field(default_factory=FactorCache)

    @cached_property
    def device(self) -> str:
        """Where models are measured."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def held_out(self) -> tuple[HeldOut, ...]:
        """The held-out tasks, as the run folder names them."""
        return HeldOutTasks(self.run, self.specification, self.device).tasks

    @cached_property
    def task(self) -> TaskData:
        """The task that was trained on."""
        return load_task(self.specification.sequence[0])

    def do(self, trial: str, on_point: OnPoint = lambda done, of: None) -> str:
        """The intervention on one trial, or what is left of it; how it ended is stored.

        Returns:
            "done", "nothing to treat", "left out", "failed", or "busy" where another process works on it.
        """
        folder = intervention_folder(self.run, trial)
        with try_lock(self.run.trial(trial).path / "intervention-lock") as mine:
            if not mine:
                return BUSY
            if is_settled(self.run, trial):
                return str((outcome_of(self.run, trial) or {})["outcome"])
            try:
                outcome, reason = self._treat(trial, folder, on_point)
            except SpectraError as error:
                outcome, reason = FAILED, str(error)
            mark(folder, "intervene")
            write_json(folder / "outcome.json", {"outcome": outcome, "reason": reason})
            return outcome

    def _treat(self, trial: str, folder: Path, on_point: OnPoint) -> tuple[str, str]:
        weights = self.run.trial(trial).weights
        if weights is None:
            return LEFT_OUT, "its weights were not kept"
        if (self.run.trial(trial).metrics or {}).get("count") == 0:
            return NOTHING, "it has no intruder dimension"
        asked = self.specification.study.interventions
        rows = asked.test_examples or self.specification.test_examples
        prepared = experiment(
            weights,
            self.held_out,
            base=self.specification.base,
            task=OwnTask(self.task, limit=rows, max_length=self.specification.max_length),
            lambdas=asked.lambdas,
            controls=asked.controls,
            select=asked.select,
            share=asked.share,
            k=self.specification.k,
            epsilon=self.specification.epsilon,
            device=self.device,
            batch_size=2 * self.specification.batch_size,
            folder=folder,
            seed=asked.seed,
            resamples=asked.resamples,
            level=self.specification.study.level,
            cache=self.cache,
        )
        prepared.run(lambda done, of, name: on_point(done, of))
        prepared.write(prepared.record())
        return DONE, ""
