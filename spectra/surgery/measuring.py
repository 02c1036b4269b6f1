"""Scores and forgetting of several checkpoints, as rows of one record."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from spectra.errors import ModelError
from spectra.forgetting import HeldOut, measure_forgetting
from spectra.forgetting.measurable import require_measurable
from spectra.forgetting.one_base import OneBase
from spectra.interventions.own_task import OwnTask, measure_own_task, require_fitting
from spectra.models import load_tuned
from spectra.records.surgery import MeasuredLoss


def require_inputs(
    checkpoints: Sequence[str],
    base: str | None,
    *,
    heldout: Sequence[HeldOut] = (),
    task: OwnTask | None = None,
    device: str = "cpu",
) -> None:
    """Refuse checkpoints that `measured` could not measure, before anything is computed or written.

    Raises:
        ModelError: If the base is not stated, or one cannot be loaded, or cannot be measured on a task.
    """
    if heldout or task is not None:
        if base is None:
            raise ModelError(f"'{checkpoints[0]}' does not name its base, which is measured too. Give it with --base.")
        fitting = None if task is None else partial(require_fitting, task=task, base=base)
        body = OneBase(base, dtype=torch.float32, device=device)
        require_measurable([Path(checkpoint) for checkpoint in checkpoints], heldout, body, also=fitting)


def measured(
    checkpoints: Sequence[str],
    base: str,
    *,
    heldout: Sequence[HeldOut] = (),
    task: OwnTask | None = None,
    device: str = "cpu",
    batch_size: int = 16,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> tuple[MeasuredLoss, ...]:
    """Forgetting of every checkpoint on every held-out task, and its score on the task that was tuned on.

    Args:
        checkpoints: Folders of adapters or full checkpoints.
        base: Their base.
        heldout: Held-out tasks and measures.
        task: The task that was tuned on.
        device: torch device.
        batch_size: Texts per forward pass.
        seed: Of the bootstrap.
        progress: Called with one line per measurement.

    Raises:
        ModelError: If a model lacks the head that a measure needs.
    """
    found: list[MeasuredLoss] = []
    if task is not None:
        for checkpoint in checkpoints:
            if progress is not None:
                progress(f"{checkpoint}: scoring {task.name}")
            loaded = load_tuned(checkpoint, base=base, dtype=torch.float32, device=device)
            scores = measure_own_task(loaded, task, base=base, batch_size=batch_size)
            found.append(MeasuredLoss(checkpoint, task.name, "score", scores.score, unit=scores.score_name))
            del loaded
    if heldout:
        run = measure_forgetting(
            checkpoints, heldout, base=base, device=device, batch_size=batch_size, seed=seed, progress=progress
        )
        for checkpoint, results in run.results.items():
            found += [
                MeasuredLoss(checkpoint, one.task, "forgetting", one.forgetting, one.low, one.high, one.unit)
                for one in results
            ]
    return tuple(found)
