"""The three things that a trial may be: a training, a sequence of tasks, or a checkpoint that exists already."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

from annotated_types import Gt

from spectra.data.spec import name_of
from spectra.training.adapt import METHODS
from spectra.training.settings import Scoring, TrainingSettings

Task = str | Mapping[str, Any]

# The first versions described a checkpoint as if it had been trained. Its hash, which names a trial's folder, still
# contains what they wrote.
AS_FIRST_WRITTEN = {
    "gradient_accumulation": 1, "schedule": "linear", "warmup": 0.06, "max_grad_norm": 1.0,
    "target_modules": "all-linear",
}  # fmt: skip


@dataclass(frozen=True)
class _Trained:
    settings: TrainingSettings

    @property
    def label(self) -> str:
        """What a person calls this configuration, seed and learning rate aside."""
        return METHODS[self.settings.method].label(self.settings)

    def identity(self) -> dict[str, Any]:
        """Everything that decides its figures.

        Of a launch that is how many processes share a batch, and how: sums are then taken in another order, and each
        process draws dropout for its part of the batch. Where the configuration lies decides nothing.
        """
        known = self.to_dict()
        if (launch := known.pop("launch", None)) is not None:
            known |= {"processes": launch["processes"], "distribution": launch["distribution"]}
        return known

    def to_dict(self) -> dict[str, Any]:
        """The form of trial.json; each kind adds its task."""
        return self.settings.to_dict()


@dataclass(frozen=True)
class TrainedTrial(_Trained):
    """One training on one task.

    Attributes:
        settings: How it is trained.
        task: Name of the task, or its description.
    """

    task: Task

    @property
    def task_name(self) -> str:
        """What tables call the task."""
        return _name(self.task)

    def to_dict(self) -> dict[str, Any]:
        """The form of trial.json."""
        return {**super().to_dict(), "task": self.task}


@dataclass(frozen=True)
class TaskSequence(_Trained):
    """Trainings on one task after another.

    Attributes:
        settings: How each is trained.
        tasks: The tasks in their order.
        merges: Whether a task starts from what the tasks before it left.
    """

    tasks: tuple[Task, ...]
    merges: bool

    @property
    def task_name(self) -> str:
        """The names of the tasks in their order."""
        return ", ".join(map(_name, self.tasks))

    def to_dict(self) -> dict[str, Any]:
        """The form of trial.json."""
        return {**super().to_dict(), "task": {"tasks": list(self.tasks), "merge": self.merges}}


@dataclass(frozen=True)
class ExistingCheckpoint(Scoring):
    """A checkpoint that is scanned and measured, never trained.

    Attributes:
        checkpoint: A folder or a hub id.
        label: What a person calls it.
        task: The task that it is scored on, if any.
        method: How it was made, as far as that is known.
        rank: Rank of its update, likewise.
        alpha: LoRA's alpha, likewise.
    """

    checkpoint: str
    label: str
    task: Task | None = None
    method: str = "checkpoint"
    rank: Annotated[int, Gt(0)] | None = None
    alpha: Annotated[float, Gt(0)] | None = None

    @property
    def task_name(self) -> str:
        """What tables call the task."""
        return _name(self.task or "")

    def identity(self) -> dict[str, Any]:
        """Everything that decides its figures."""
        known = self.to_dict()
        named = {name: known.pop(name) for name in ("checkpoint", "label")}
        return {**AS_FIRST_WRITTEN, **known, "task": self.task or "", "arguments": named}

    def to_dict(self) -> dict[str, Any]:
        """The form of trial.json."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


TrialKind = TrainedTrial | TaskSequence | ExistingCheckpoint


def kind_from_dict(values: Mapping[str, Any]) -> TrialKind:
    """What `to_dict` wrote, in this version or in the first ones."""
    known = {**values, **values.get("arguments", {})}
    if "checkpoint" in known:
        return ExistingCheckpoint(
            **{one.name: known[one.name] for one in fields(ExistingCheckpoint) if one.name in known}
        )
    settings = TrainingSettings.from_dict({name: value for name, value in values.items() if name != "task"})
    task = values["task"]
    if isinstance(task, Mapping) and "tasks" in task:
        return TaskSequence(settings, tuple(task["tasks"]), task["merge"])
    return TrainedTrial(settings, task)


def _name(task: Task) -> str:
    return task if isinstance(task, str) else name_of(task)
