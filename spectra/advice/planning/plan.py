"""`plan`: what to train, before it is trained, from W0's spectra and a pilot of a few steps."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spectra.advice.advise import AdviceSettings, Progress
from spectra.advice.planning.derivation import planned_from
from spectra.advice.planning.files import require_place, write_plan
from spectra.advice.planning.pilot import PilotSettings, run_pilot
from spectra.advice.planning.records import TrainingPlan
from spectra.advice.ranks import RankRule
from spectra.engine.cache import FactorCache
from spectra.errors import SpecificationError
from spectra.scanning.settings import ScanSettings
from spectra.sweep.execution.schedule import OnEvent
from spectra.sweep.sweep import Executor
from spectra.training.settings import Precision

TaskLike = str | Mapping[str, Any]


def plan(
    base: str | Path,
    task: TaskLike | Path,
    *,
    heldout: Sequence[TaskLike] = (),
    steps: int = 150,
    pilot_steps: int = 20,
    pilot_rank: int = 64,
    full: bool | None = None,
    keep: float = 0.9,
    max_rank: int | None = None,
    budget: int | None = None,
    alpha: float | str = "2r",
    tolerance: float = 0.1,
    batch_size: int = 16,
    max_length: int = 128,
    precision: Precision = "float32",
    head_learning_rate: float | None = None,
    train_examples: int | None = None,
    validation_examples: int | None = 200,
    seed: int = 0,
    k: int = 10,
    epsilon: float = 0.5,
    draws: int = 15,
    out: str | Path | None = None,
    force: bool = False,
    executor: Executor = "local",
    on_event: OnEvent = lambda event: None,
    progress: Progress | None = None,
    cache: FactorCache | None = None,
    command: str = "",
) -> TrainingPlan:
    """Ranks, alphas, learning rates and risks of a LoRA training that was not run yet.

    A pilot trains LoRA of rank `pilot_rank`, and all weights where they fit into memory, for `pilot_steps` at a few
    rates, and looks at the gradient. Ranks and target modules follow from its updates by the engine of `advise`; rates
    from its validation scores; the risks from the growth of its updates against the critical sizes of W0, and from
    what it forgot.

    Args:
        base: Pre-trained model: asset name, folder or hub id.
        task: The task: name, file, or fields as in a sweep's specification.
        heldout: What must not be forgotten, as in a sweep's specification.
        steps: Optimiser steps of the training that is planned.
        pilot_steps: Of each short training.
        pilot_rank: Rank of its LoRA, surely enough; a smaller matrix lowers it.
        full: Whether all weights are trained in the pilot too; None: where they fit into memory.
        keep: Share of each early update's energy that its rank must keep.
        max_rank: No rank is larger; None: `pilot_rank`.
        budget: Trained numbers of the whole adapter, instead of `keep`.
        alpha: Rule for alpha, such as "2r" or 16.
        tolerance: Forgetting whose risk is asked for, in the unit of the held-out measure.
        batch_size: Examples per step.
        max_length: Tokens per example.
        precision: Arithmetic of the training.
        head_learning_rate: Of a new task head; None: the body's.
        train_examples: At most this many training examples; None: all.
        validation_examples: At most this many validation examples; None: all.
        seed: Of heads, adapters, batches and random directions.
        k: Leading singular vectors looked at per matrix.
        epsilon: Cosine below which a vector counts as an intruder.
        draws: Random directions behind a critical size.
        out: Folder for adapter_config.json, sweep.yaml, plan.json and the pilot's runs; a second call goes on there.
        force: Replace the files of another plan in `out`.
        executor: As `run_sweep` takes it.
        on_event: Called with every event of the pilot's sweeps.
        progress: Called with (matrices done, all, name) while the updates are looked at.
        cache: Where factors of W0 are kept between calls.
        command: The command line, for the record.

    Raises:
        SpecificationError: Naming everything that would fail, before anything is trained.
        SpectrumError: If a setting has no meaning.
        DestinationError: If `out` holds something else.
        RunError: If the pilot failed at every rate.

    Example:
        >>> short = {"steps": 4, "pilot_steps": 2, "batch_size": 4, "max_length": 16}
        >>> planned = spectra.plan(
        ...     specification["base"], task, full=False, k=4, draws=1, executor="inline", **short
        ... )
        >>> [one.is_middle for one in planned.rates]
        [False, True, False]
    """
    asked = AdviceSettings(
        rule=RankRule(keep, max_rank or pilot_rank, budget),
        alpha=alpha,
        draws=draws,
        seed=seed,
        measure=False,
        own=False,
        scan=ScanSettings(k=k, epsilon=epsilon),
    )
    _require_lengths(steps, pilot_steps, pilot_rank, tolerance)
    recipe = {
        "batch_size": batch_size,
        "max_length": max_length,
        "precision": precision,
        "head_learning_rate": head_learning_rate,
        "train_examples": train_examples,
        "validation_examples": validation_examples,
    }
    pilot = PilotSettings(
        base=str(base),
        task=str(task) if isinstance(task, Path) else task,
        heldout=tuple(heldout),
        steps=pilot_steps,
        rank=pilot_rank,
        full=full,
        recipe={name: value for name, value in recipe.items() if value is not None},
        seed=seed,
        k=k,
        epsilon=epsilon,
    )
    question = {
        **{name: value for name, value in vars(pilot).items() if name != "heldout"},
        "heldout": list(pilot.heldout),
        "training_steps": steps,
        "tolerance": tolerance,
        "alpha": alpha,
        "draws": draws,
        **vars(asked.rule),
    }
    with _workplace(out, question, force=force) as folder:
        piloted = run_pilot(pilot, folder, executor=executor, on_event=on_event, command=command)
        planned = planned_from(piloted, asked, steps=steps, tolerance=tolerance, cache=cache, progress=progress)
    if out is not None:
        write_plan(planned, Path(out), question)
    return planned


def _require_lengths(steps: int, pilot_steps: int, pilot_rank: int, tolerance: float) -> None:
    for name, value in (("steps", steps), ("pilot_steps", pilot_steps), ("pilot_rank", pilot_rank)):
        if value < 1:
            raise SpecificationError(f"{name} is {value}, but it is at least 1. Use a positive number.")
    if pilot_steps >= steps:
        raise SpecificationError(
            f"The pilot has {pilot_steps} steps and the training {steps}, so that there is nothing to foresee. "
            "Use fewer pilot_steps."
        )
    if not tolerance > 0:
        raise SpecificationError(f"tolerance is {tolerance}, but it is a forgetting above 0. Use for instance 0.1.")


@contextmanager
def _workplace(out: str | Path | None, question: Mapping[str, Any], *, force: bool) -> Iterator[Path]:
    """The folder that the pilot's runs go into: one that stays, or one that goes."""
    if out is None:
        with tempfile.TemporaryDirectory(prefix="spectra-plan-") as passing:
            yield Path(passing)
        return
    yield require_place(Path(out), question, force=force)
