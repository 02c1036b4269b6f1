"""The jobs of a sweep, one at a time, in this process: measure the base, do a trial, test a chosen trial.

Each job leaves whole files and does nothing twice: what is already written is taken as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch

from spectra.data import TaskData
from spectra.models import LoadedModel, content_of, load_base, load_kind, load_tuned, resolve_model
from spectra.models.base import load_tokenizer
from spectra.records.provenance import commit, hardware, versions
from spectra.runs import BASE_TASK, Run, TrialFolder
from spectra.sweep.execution.schedule import Outcome
from spectra.sweep.spec.kinds import ExistingCheckpoint, TaskSequence, TrainedTrial
from spectra.sweep.spec.plan import PlannedTrial
from spectra.sweep.spec.specification import Specification
from spectra.sweep.trial.continual import SequenceTraining, mean_score
from spectra.sweep.trial.halving import next_pause
from spectra.sweep.trial.held_out import HeldOutTasks
from spectra.sweep.trial.inputs import open_tasks, replayed_tasks, require_unchanged
from spectra.sweep.trial.launched import LaunchedTraining
from spectra.sweep.trial.row_account import account_rows
from spectra.sweep.trial.score import require_writer
from spectra.sweep.trial.score import score as score_of
from spectra.sweep.trial.seconds import Clock
from spectra.sweep.trial.spectra_rows import scan_trial
from spectra.sweep.trial.training import OnStep, TrialTraining
from spectra.training.adapt import METHODS
from spectra.training.driver import Evaluation, Spent, TrainingPaused, TrainingStopped
from spectra.training.families import FAMILIES, family_of
from spectra.training.metrics import FamilyName
from spectra.training.settings import TrainingSettings
from spectra.weights.formats.hub import locate

Stage = Literal["training", "scanning", "measuring", "testing"]


@runtime_checkable
class OnStage(Protocol):
    """Hears what is being done: a stage, steps done and in all where there are any, and the last validation."""

    def __call__(self, stage: Stage, step: int, steps: int, validation: tuple[str, float] | None = None, /) -> None: ...


@dataclass
class Runner:
    """Does the jobs of one sweep; keeps data and base scores in memory between them.

    Attributes:
        run: The run folder.
        specification: The sweep.
        stop: Asked while training; True saves a checkpoint and ends the job with "stopped".
        save_seconds: Time between training checkpoints.
        start_seconds: What the start of this process took; counted for its first trial.
    """

    run: Run
    specification: Specification
    stop: Callable[[], bool] = lambda: False
    save_seconds: float = 120.0
    start_seconds: float = 0.0
    clock: Clock = field(default_factory=Clock)

    @cached_property
    def device(self) -> str:
        """Where models are measured; the Trainer chooses the same."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def task(self) -> TaskData:
        """The task that is trained on; the first one of a sequence."""
        return self.tasks[0]

    @cached_property
    def tasks(self) -> tuple[TaskData, ...]:
        """The tasks that are trained on, in their order.

        Raises:
            RunError: If one is no longer what it was when the sweep began.
        """
        opened = open_tasks(self.specification)
        for there, task in zip(self.run.inputs["tasks"], opened, strict=True):
            require_unchanged(f"task '{task.name}'", there["content"], task.fingerprint)
        return opened

    @cached_property
    def family(self) -> FamilyName:
        """The family that task and base model make."""
        return family_of(self.task.kind, self.specification.base)

    @cached_property
    def held_out(self) -> HeldOutTasks:
        """The held-out tasks."""
        return HeldOutTasks(self.run, self.specification, self.device)

    @cached_property
    def replayed(self) -> tuple[TaskData, ...]:
        """The tasks whose texts a method trains on beside the task.

        Raises:
            RunError: If one is no longer what it was when the sweep began.
        """
        opened, known = replayed_tasks(self.specification), self.run.inputs.get("replayed", {})
        for task in opened:
            require_unchanged(f"replayed task '{task.name}'", known.get(task.name, ""), task.fingerprint)
        return opened

    @cached_property
    def row_account(self) -> list[dict[str, Any]]:
        """What became of every row of every task: the same for all trials."""
        tokenizer = load_tokenizer(self.specification.base)
        return list(account_rows(self.tasks, self.held_out.tasks, self.specification, tokenizer))

    def measure_base(self) -> None:
        """Score the untouched base on the held-out tasks, and on the task itself unless its head would be new."""
        if self.tasks:
            require_writer(self.task, self.specification)
        with self.run.base_lock():
            names = [BASE_TASK, *(task.name for task in self.held_out.tasks)]
            if all(self.run.base_result(name) is not None for name in names):
                return
            self._require_base()
            base = self._base()
            self.held_out.measure_base(base)
            score: dict[str, Any] = {}
            if self.specification.task is not None and FAMILIES[self.family].problem_type is None:
                # One task, and the base's own head.
                score = {"base_task_score": self._scored(base, "test").score}
            self.run.write_base_result(BASE_TASK, score)

    def _base(self) -> LoadedModel:
        """The untouched base, with the head that the task needs, or as it was saved where there is no task."""
        name = self.specification.base
        if not self.tasks:
            return load_base(name, load_kind(name), device=self.device)
        return load_base(name, FAMILIES[self.family].model_kind, num_labels=self.task.outputs, device=self.device)

    def do_trial(self, trial: PlannedTrial, on_stage: OnStage) -> Outcome:
        """Train and measure one trial, or what is left of it.

        Returns:
            "busy" if another process works on it, "stopped" if `stop` said so, "paused" where it is scored before it is
            decided whether it goes on.
        """
        folder = self.run.trial(trial.id)
        with folder.claim() as mine:
            if mine:
                folder.clear_partials()
                self._describe(trial, folder)  # first, so that a failure of what follows has its row in the tables
            with self._timed():
                missing = self.held_out.missing(folder)
            if folder.stopped_at is not None or (folder.is_finished and not missing):
                return "done"
            if not mine:
                return "busy"
            if next_pause(folder, self.specification.early_stopping) in folder.scores_on_the_way:
                return "paused"
            with self._timed(folder):
                self._require_base()
                try:
                    weights = self._weights(trial, folder, on_stage)
                except TrainingPaused as paused:
                    pause = next_pause(folder, self.specification.early_stopping)
                    folder.score_on_the_way(cast(int, pause), paused.score)
                    return "paused"
                except TrainingStopped:
                    return "stopped"
                if not folder.is_finished:
                    on_stage("scanning", 0, 0)
                    self._scan(weights, folder)
                on_stage("measuring", 0, 0)
                folder.write_rows("row_account", self.row_account)
                tuned = self._load(weights)
                with self.clock.part("measuring"):
                    folder.add_forgetting(*self.held_out.measure_tuned(tuned, missing))
            folder.finish({*folder.measured, *(task.name for task in missing)})
        return "done"

    def _scan(self, weights: Path, folder: TrialFolder) -> None:
        with self.clock.part("scan"):
            summary, controls = scan_trial(folder, weights, resolve_model(self.specification.base), self.specification)
        self.clock.move("scan", "controls", controls)
        folder.write_metrics({**(folder.metrics or {}), **summary})

    @contextmanager
    def _timed(self, folder: TrialFolder | None = None) -> Iterator[None]:
        """Count as "load" what is no part of its own; then book everything for a trial, or leave it for the next."""
        self.clock.add("start", self.start_seconds)
        self.start_seconds = 0.0
        try:
            with self.clock.part("load"):
                yield
        finally:
            if folder is not None:
                folder.add_seconds(self.clock.seconds)
                self.clock = Clock()

    def do_test(self, trial: PlannedTrial, on_stage: OnStage) -> Outcome:
        """Score a chosen trial on the test split, once."""
        folder = self.run.trial(trial.id)
        with folder.claim() as mine:
            if folder.test is not None:
                return "done"
            if not mine:
                return "busy"
            on_stage("testing", 0, 0)
            with self._timed(folder):
                try:
                    # A trial that was not chosen when its weights were dropped may be chosen once the grid has grown.
                    score = self._score(trial, self._weights(trial, folder, on_stage), "test")
                except TrainingStopped:
                    return "stopped"
            folder.write_test({"task_score": score.score, "task_examples": score.examples} if score else {})
            folder.forget_failure()
        return "done"

    def _describe(self, trial: PlannedTrial, folder: TrialFolder) -> None:
        """Write trial.json."""
        if (folder.path / "trial.json").exists():
            return
        folder.write_settings(
            {
                "specification": trial.kind.to_dict(),
                "label": trial.label,
                "group": trial.group,
                "inputs": self._inputs(trial),
                "versions": dict(versions()),
                "hardware": dict(hardware()),
                "commit": commit(),
            }
        )

    def _inputs(self, trial: PlannedTrial) -> dict[str, Any]:
        """The contents that this trial's figures come from."""
        known = self.run.inputs
        own = trial.kind.checkpoint if isinstance(trial.kind, ExistingCheckpoint) else None
        return {**known, "checkpoints": {name: held for name, held in known["checkpoints"].items() if name == own}}

    def _require_base(self) -> None:
        """The base is still what it was when the sweep began; read again only if its files have changed."""
        name = self.specification.base
        require_unchanged(f"base '{name}'", self.run.inputs["base"], content_of(name))

    def _weights(self, trial: PlannedTrial, folder: TrialFolder, on_stage: OnStage) -> Path:
        """The tuned weights of a trial: given, trained before, or trained now."""

        def learn(settings: TrainingSettings, task: TaskData, there: TrialFolder, points: int = 0) -> Path:
            place = next(place for place, one in enumerate(self.tasks) if one is task)
            training = TrialTraining(settings, place, there, f"{trial.label} {trial.id}", points)
            return there.weights or self._train(training, on_stage)

        match trial.kind:
            case TrainedTrial(settings):
                return learn(settings, self.task, folder, self.specification.trajectory)
            case TaskSequence(settings):
                return self._sequence(settings, folder).learn(learn)
            case ExistingCheckpoint(checkpoint=name):
                weights = locate(name)
                known = self.run.inputs["checkpoints"].get(name, "")
                require_unchanged(f"checkpoint '{name}'", known, content_of(name))
                if folder.metrics is None:
                    on_stage("measuring", 0, 0)
                    score = self._score(trial, weights, "validation")
                    folder.write_metrics(
                        {"task_metric": score.metric, "validation_score": score.score} if score else {}
                    )
                return weights

    def _score(self, trial: PlannedTrial, weights: Path, split: str) -> Evaluation | None:
        """The score of tuned weights on a split of the task; None without a task."""
        if isinstance(trial.kind, TaskSequence):
            with self.clock.part("testing" if split == "test" else "validation"):
                return mean_score(self._sequence(trial.kind.settings, self.run.trial(trial.id)).scores(split))
        return self._scored(self._load(weights), split) if self.tasks else None

    def _scored(self, loaded: LoadedModel, split: str) -> Evaluation:
        """The score of a model on a split of the task."""
        with self.clock.part("testing" if split == "test" else "validation"):
            return score_of(loaded.model, loaded.tokenizer, self.task, split, self.specification)

    def _sequence(self, settings: TrainingSettings, folder: TrialFolder) -> SequenceTraining:
        kind = FAMILIES[self.family].model_kind
        return SequenceTraining(settings, self.specification, self.tasks, folder, kind, self.device)

    def _train(self, training: TrialTraining, on_stage: OnStage) -> Path:
        """Train from the last checkpoint, here or in the processes of a launch."""
        settings = training.settings
        on_stage("training", 0, settings.steps or 0)

        def on_step(step: int, steps: int, validation: tuple[str, float] | None) -> None:
            on_stage("training", step, steps, validation)

        if settings.launch is None:
            spent = self.train_here(training, on_step)
        else:
            launched = LaunchedTraining(self.run.path, self.specification, training, self.save_seconds)
            spent = launched.train(on_step, self.stop)
        for part, seconds in spent.items():
            self.clock.move("load", part, seconds)
        return training.weights

    def train_here(self, training: TrialTraining, on_step: OnStep) -> Spent:
        """Train in this process, and in those that share the training.

        Returns:
            Seconds by part.
        """
        if METHODS[training.settings.method].text_arguments:
            _ = self.replayed  # refuses texts that have changed
        return training.train(
            self.tasks[training.task],
            self.family,
            self.specification,
            save_seconds=self.save_seconds,
            on_step=on_step,
            stop=self.stop,
        )

    def _load(self, weights: Path) -> LoadedModel:
        kind = FAMILIES[self.family].model_kind if self.tasks else None
        return load_tuned(weights, base=self.specification.base, kind=kind, device=self.device)
