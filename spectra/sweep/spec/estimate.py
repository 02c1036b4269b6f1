"""What a planned sweep will cost, from configurations alone: no weight is read and nothing is trained."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch

from spectra.data import TaskData, load_task
from spectra.errors import DataError, ModelError
from spectra.sweep.spec.downloads import model_download, task_download
from spectra.sweep.spec.given import is_given, reference
from spectra.sweep.spec.plan import PlannedTrial
from spectra.sweep.spec.requirements import require_packages
from spectra.sweep.spec.specification import Specification
from spectra.training.skeleton import Skeleton, padded_length, skeleton
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
        seconds: Rough estimate of the training time, from the length of the texts and the speed of a matrix product
            timed just now.
    """

    trial: PlannedTrial
    trainable_parameters: int | None
    optimiser_bytes: int | None
    disk_bytes: int | None
    seconds: float | None


def estimate(specification: Specification, trials: Sequence[PlannedTrial]) -> list[Estimate]:
    """The expected cost of each trial; what depends on a model or on data that are not at hand is None."""
    require_packages(specification.report_to, specification.quantisation)
    trained = [trial for trial in trials if not is_given(trial.settings)]
    costs = _of_training(specification.sequence, trained) if trained else []
    return [_stored(one, specification) for one in costs] + [
        _of_given(trial) for trial in trials if is_given(trial.settings)
    ]


def _of_given(trial: PlannedTrial) -> Estimate:
    """Nothing is trained; how long scanning and measuring take is not known, nor the size of what only the hub has."""
    absent = model_download(reference(trial.settings)) is not None
    return Estimate(trial, 0, 0, None if absent else 0, None)


def _of_training(tasks: Sequence[str | Mapping[str, Any]], trials: Sequence[PlannedTrial]) -> list[Estimate]:
    """Of a sequence of tasks, the first one's length stands for all."""
    task = tasks[0]
    # A plan fetches and converts nothing.
    if any(model_download(trial.settings.base) for trial in trials) or (
        isinstance(task, str) and task_download(task) is not None
    ):
        return [Estimate(trial, None, None, None, None) for trial in trials]
    data = _data(task)
    if data is not None:
        kind, labels = data.kind, data.outputs
    else:
        stated = dict(task)  # type: ignore[arg-type] # a name would have been loaded
        kind, labels = stated["kind"], len(stated.get("label_names", ()))
    lengths: dict[tuple[int, int], float] = {}
    estimates = []
    for trial in trials:
        settings = trial.settings
        try:
            size = skeleton(settings, kind, labels or None)
        except ModelError:
            estimates.append(Estimate(trial, None, None, None, None))
            continue
        shape = (settings.batch_size, settings.max_length)
        if data is not None and shape not in lengths:
            lengths[shape] = padded_length(settings, data)
        estimates.append(_estimate(trial, size, lengths.get(shape), len(tasks)))
    return estimates


def _data(task: str | Mapping[str, Any]) -> TaskData | None:
    """The task's data; None if they are not at hand and the task states its kind and labels: plans work offline."""
    stated = isinstance(task, Mapping) and (
        task.get("kind") in ("causal-lm", "seq2seq") or bool(task.get("kind") and task.get("label_names"))
    )
    if stated and task_download(task) is not None:
        return None
    try:
        return load_task(task)
    except DataError:
        if not stated:
            raise
        return None


def _estimate(trial: PlannedTrial, size: Skeleton, length: float | None, tasks: int) -> Estimate:
    whole = tasks > 1 or weights_kind(trial.settings) == "checkpoint"  # a sequence keeps its merged weights
    saved = size.parameters if whole else size.trainable
    return Estimate(
        trial,
        trainable_parameters=size.trainable,
        optimiser_bytes=ADAM_STATES * BYTES * size.trainable,
        disk_bytes=BYTES * saved,
        seconds=None if length is None else _seconds(trial, size, length, tasks),
    )


def _stored(one: Estimate, specification: Specification) -> Estimate:
    """Weights kept along the way count as those at the end do; bfloat16 halves a full checkpoint."""
    if one.disk_bytes is None:
        return one
    halves = 2 if specification.store_dtype and weights_kind(one.trial.settings) == "checkpoint" else 1
    return replace(one, disk_bytes=(1 + len(specification.keep_steps or ())) * one.disk_bytes // halves)


def _seconds(trial: PlannedTrial, size: Skeleton, length: float, tasks: int) -> float | None:
    """Two operations per weight and token forward and four backward, whatever the method."""
    settings = trial.settings
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
