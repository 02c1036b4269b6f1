"""What a planned sweep will cost, from configurations alone: no weight is read and nothing is trained."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch

from spectra.data import TaskKind, load_task
from spectra.errors import ModelError
from spectra.sweep.plan import PlannedTrial
from spectra.sweep.specification import Specification
from spectra.training.skeleton import Skeleton, skeleton
from spectra.training.store import weights_kind

ADAM_STATES = 2  # numbers that AdamW keeps per trained number
BYTES = 4  # of a float32
EFFICIENCY = 0.5  # share of the plain matrix product's speed that a training step reaches; rough


@dataclass(frozen=True)
class Estimate:
    """The expected cost of one trial; None where the base model is not at hand.

    Attributes:
        trial: The trial.
        trainable_parameters: Numbers trained, a head included.
        optimiser_bytes: Memory of AdamW's state.
        disk_bytes: Size of the trained weights while they are kept.
        seconds: Upper estimate of the training time: every text is taken to fill max_length, and the speed is that
            of a matrix product timed just now.
    """

    trial: PlannedTrial
    trainable_parameters: int | None
    optimiser_bytes: int | None
    disk_bytes: int | None
    seconds: float | None


def estimate(specification: Specification, trials: Sequence[PlannedTrial]) -> list[Estimate]:
    """The expected cost of each trial."""
    kind = _kind(specification)
    labels = _labels(specification)
    return [_estimate(trial, kind, labels) for trial in trials]


def _estimate(trial: PlannedTrial, kind: TaskKind, labels: int | None) -> Estimate:
    settings = trial.settings
    try:
        model = skeleton(settings, kind, labels)
    except ModelError:
        return Estimate(trial, None, None, None, None)
    saved = model.parameters if weights_kind(settings) == "checkpoint" else model.trainable
    return Estimate(
        trial,
        trainable_parameters=model.trainable,
        optimiser_bytes=ADAM_STATES * BYTES * model.trainable,
        disk_bytes=BYTES * saved,
        seconds=_seconds(trial, model),
    )


def _seconds(trial: PlannedTrial, model: Skeleton) -> float | None:
    """Two operations per weight and token forward and four backward, whatever the method."""
    settings = trial.settings
    if settings.steps is None:
        return None
    tokens = settings.steps * settings.batch_size * settings.gradient_accumulation * settings.max_length
    return 6 * model.multiplied * tokens / (EFFICIENCY * _operations_per_second())


@cache
def _operations_per_second() -> float:
    """Speed of a float32 matrix product on this machine's device, the best of a few."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    size = 8192 if device == "cuda" else 1024
    matrix = torch.randn(size, size, device=device)
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        product = matrix @ matrix
        float(product[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def _kind(specification: Specification) -> TaskKind:
    return load_task(specification.task).kind


def _labels(specification: Specification) -> int | None:
    return len(load_task(specification.task).label_names) or None
