"""The training of one trial, or of one task of a sequence: in this process, as one of those that share it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spectra.data import TaskData
from spectra.models import resolve_model
from spectra.runs import TrialFolder
from spectra.sweep.spec.specification import Specification
from spectra.sweep.trial.halving import next_pause
from spectra.sweep.trial.score import score
from spectra.sweep.trial.spectra_rows import trajectory_rows
from spectra.training.adapt import scaling, weights_kind
from spectra.training.callback import SpectraCallback
from spectra.training.distributed import is_main_process
from spectra.training.driver import Evaluation, Spent, train
from spectra.training.metrics import WRITTEN, FamilyName, metric_of
from spectra.training.settings import TrainingSettings
from spectra.training.store import KeepWeights, save_trained
from spectra.training.trainer import Tracking

OnStep = Callable[[int, int, tuple[str, float] | None], None]  # step, steps in all, and the last validation


@dataclass(frozen=True, eq=False)
class TrialTraining:
    """What is trained, and where it is written: all that a process has to know beside the specification.

    Attributes:
        settings: How.
        task: Place of its task among those of the specification.
        folder: Where everything is written.
        name: What trackers call it.
        points: How often the weights are looked at along the way.
    """

    settings: TrainingSettings
    task: int
    folder: TrialFolder
    name: str
    points: int

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> "TrialTraining":
        """Read what `to_dict` gave."""
        settings = TrainingSettings.from_dict(values["settings"])
        folder = TrialFolder(Path(values["folder"]))
        return TrialTraining(settings, values["task"], folder, values["name"], values["points"])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for another process."""
        return {
            "settings": self.settings.to_dict(),
            "task": self.task,
            "folder": str(self.folder.path),
            "name": self.name,
            "points": self.points,
        }

    @property
    def weights(self) -> Path:
        """Where the trained weights lie afterwards."""
        return self.folder.adapter if weights_kind(self.settings) == "adapter" else self.folder.checkpoint

    def train(
        self,
        task: TaskData,
        family: FamilyName,
        specification: Specification,
        *,
        save_seconds: float,
        on_step: OnStep,
        stop: Callable[[], bool],
    ) -> Spent:
        """Train from the last checkpoint; the weights' folder appears after everything else is written.

        Of the processes that share the training the first one writes.

        Args:
            task: The data.
            family: What task and base make.
            specification: The sweep.
            save_seconds: Time between training checkpoints.
            on_step: Told of every step, with the last validation.
            stop: Asked while training; True saves a checkpoint and ends it.

        Returns:
            Seconds by part.

        Raises:
            TrainingStopped: If `stop` said so.
            TrainingPaused: Where the sweep decides first whether it goes on.
        """
        settings, folder = self.settings, self.folder
        watching, keeping = self._along_the_way(specification)
        metric = metric_of(family, settings.validation_metric, task).name
        validations: list[tuple[str, float]] = []
        trained = train(
            settings,
            task,
            folder.training,
            save_seconds=save_seconds,
            on_step=lambda step, steps: on_step(step, steps, validations[-1] if validations else None),
            on_validation=lambda value: validations.append((metric, value)),
            stop=stop,
            pause_at=next_pause(folder, specification.early_stopping),
            watching=watching,
            keeping=keeping,
            tracking=Tracking(tuple(specification.report_to), self.name, folder.path / "tensorboard"),
            validate=_validation(settings, task),
        )
        if not is_main_process():
            return trained.spent
        folder.write_rows("history", trained.history)
        folder.write_rows("trajectory", trajectory_rows(watching, folder))
        folder.write_rows("trajectory_matrices", watching.trajectory.matrices if watching else [])
        folder.write_metrics(
            {
                **(folder.metrics or {}),
                "steps": trained.steps,
                "scaling": scaling(settings),
                "task_metric": trained.validation.metric,
                "validation_score": trained.validation.score,
                "trainable_parameters": trained.trainable_parameters,
                "optimiser_bytes": trained.optimiser_bytes,
                "train_seconds": trained.seconds,
                "tokens_per_second": trained.tokens / trained.seconds if trained.seconds else None,
                "peak_memory_bytes": trained.peak_memory_bytes,
            }
        )
        with folder.saving_weights(weights_kind(settings)) as weights:
            dtype = _store_dtype(specification)
            save_trained(trained.model, trained.tokenizer, trained.initial, weights, dtype)
        return trained.spent

    def _along_the_way(self, asked: Specification) -> tuple[SpectraCallback | None, KeepWeights | None]:
        """What looks at the weights, and what keeps them, while the training goes on."""
        steps = asked.keep_steps or []
        watching = SpectraCallback(
            points=self.points,
            at=steps,
            base=resolve_model(self.settings.base),
            k=asked.k,
            epsilon=asked.epsilon,
            warn_at=None,
        )
        keeping = KeepWeights(steps, self.folder.keeping_weights, _store_dtype(asked))
        return watching if self.points or steps else None, keeping if steps else None


def _store_dtype(specification: Specification) -> torch.dtype | None:
    """Storage of full checkpoints; None as they were trained."""
    return getattr(torch, specification.store_dtype) if specification.store_dtype else None


def _validation(settings: TrainingSettings, task: TaskData) -> Callable[[Any, Any], Evaluation] | None:
    """How the trained model is scored on the validation split, where not as while it trains."""
    if settings.validation_metric != WRITTEN:
        return None
    return lambda model, tokenizer: score(model, tokenizer, task, "validation", settings)
