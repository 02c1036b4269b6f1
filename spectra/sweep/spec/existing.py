"""Checkpoints that exist already, as trials of a sweep: scanned and measured, never trained."""

from collections.abc import Iterator
from pathlib import PurePath

from spectra.sweep.spec.specification import Specification
from spectra.training.settings import TrainingSettings

# Fields of the specification that matter to a checkpoint: they decide how it is evaluated on the task.
EVALUATION = ("base", "batch_size", "max_length", "validation_examples", "test_examples")


def existing_checkpoints(specification: Specification) -> Iterator[TrainingSettings]:
    """The settings that stand for each checkpoint; nothing in them is trained with."""
    for one in specification.checkpoints:
        yield TrainingSettings(
            **{name: getattr(specification, name) for name in EVALUATION},
            task=specification.task or "",
            method=one.method or "checkpoint",
            rank=one.rank,
            alpha=one.alpha,
            learning_rate=0.0,
            seed=0,
            steps=0,
            arguments={"checkpoint": one.checkpoint, "label": one.label or PurePath(one.checkpoint).name},
        )


def is_existing(settings: TrainingSettings) -> bool:
    """Whether these settings stand for a checkpoint that exists already."""
    return "checkpoint" in settings.arguments


def reference(settings: TrainingSettings) -> str:
    """Where such a checkpoint is: a folder or a hub id."""
    return str(settings.arguments["checkpoint"])
