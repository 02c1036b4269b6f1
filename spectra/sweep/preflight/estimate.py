"""What a planned sweep will cost, from configurations alone: no weight is read and nothing is trained."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch

from spectra.data import TaskData
from spectra.sweep.preflight.downloads import model_download
from spectra.sweep.spec.kinds import ExistingCheckpoint
from spectra.sweep.spec.plan import PlannedTrial
from spectra.sweep.spec.specification import Specification
from spectra.training.adapt import weights_kind
from spectra.training.settings import TrainingSettings
from spectra.training.skeleton import Skeleton, padded_length

BYTES = 4  # of a float32
# What an optimiser keeps per trained number: two moments in 32 or 8 bits; Adafactor keeps a row and a column of each.
STATE_BYTES = {"adamw_8bit": 2, "paged_adamw_8bit": 2, "adafactor": 0, "sgd": 0}
EFFICIENCY = 0.5  # share of the plain matrix product's speed that a training step reaches; rough


@dataclass(frozen=True)
class Estimate:
    """The expected cost of one trial; None where the base model is not at hand.

    Attributes:
        trial: The trial.
        trainable_parameters: Numbers trained, a head included.
        optimiser_bytes: Memory of AdamW's state.
        disk_bytes: Size of the trained weights while they are kept.
        seconds: Rough estimate of the training time, from the length of the texts and the speed of a matrix product
            timed just now.
    """

    trial: PlannedTrial
    trainable_parameters: int | None
    optimiser_bytes: int | None
    disk_bytes: int | None
    seconds: float | None


def _of_existing(trial: PlannedTrial, checkpoint: str) -> Estimate:
    """Nothing is trained; how long scanning and measuring take is not known, nor the size of what only the hub has."""
    absent = model_download(checkpoint) is not None
    return Estimate(trial, 0, 0, None if absent else 0, None)


def estimates(
    specification: Specification,
    trials: Sequence[PlannedTrial],
    sizes: Callable[[TrainingSettings], Skeleton | None],
    data: TaskData | None,
) -> list[Estimate]:
    """The expected cost of each trial; what depends on a model or on data that are not at hand is None.

    Args:
        specification: The sweep.
        trials: Its trials.
        sizes: The size of what a trial trains; None where its base is not at hand.
        data: The task, of a sequence the first one, whose length stands for all; None if it is not at hand.
    """
    lengths: dict[tuple[int, int], float | None] = {}
    found = []
    for trial in trials:
        if isinstance(trial.kind, ExistingCheckpoint):
            found.append(_of_existing(trial, trial.kind.checkpoint))
            continue
        settings = trial.kind.settings
        size = sizes(settings)
        if size is None:
            found.append(Estimate(trial, None, None, None, None))
            continue
        shape = (settings.batch_size, settings.max_length)
        if shape not in lengths:
            lengths[shape] = None if data is None else padded_length(settings, data)
        found.append(_estimate(trial, settings, size, lengths[shape], specification))
    return found


def _estimate(
    trial: PlannedTrial, settings: TrainingSettings, size: Skeleton, length: float | None, specification: Specification
) -> Estimate:
    """Weights kept along the way count as those at the end do; bfloat16 halves a full checkpoint."""
    tasks = len(specification.sequence)
    full = weights_kind(settings) == "checkpoint"
    saved = size.parameters if full or tasks > 1 else size.trainable  # a sequence keeps its merged weights
    halves = 2 if specification.store_dtype and full else 1
    return Estimate(
        trial,
        trainable_parameters=size.trainable,
        optimiser_bytes=STATE_BYTES.get(settings.optimiser or "", 2 * BYTES) * size.trainable,
        disk_bytes=(1 + len(specification.keep_steps or ())) * BYTES * saved // halves,
        seconds=None if length is None else _seconds(settings, size, length, tasks),
    )


def _seconds(settings: TrainingSettings, size: Skeleton, length: float, tasks: int) -> float | None:
    """Two operations per weight and token forward and four backward, whatever the method."""
    if settings.steps is None:
        return None
    tokens = tasks * settings.steps * settings.batch_size * settings.gradient_accumulation * length
    return 6 * size.multiplied * tokens / (EFFICIENCY * _operations_per_second())


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
