"""`plan`: what to train, before it is trained, from W0's spectra and a pilot of a few steps."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from spectra.advice.advise import AdviceSettings, Progress, advised_matrices
from spectra.advice.evidence import read_evidence
from spectra.advice.planning.expectations import Expectations, expectations
from spectra.advice.planning.files import require_place, write_plan
from spectra.advice.planning.pilot import FIRST, Pilot, PilotSettings, run_pilot
from spectra.advice.planning.records import PilotPoint, PlannedMatrix, RateForecast, TrainingPlan
from spectra.advice.ranks import RankRule
from spectra.advice.rates import carried_over, grid, rounded
from spectra.advice.records import Advice, MatrixAdvice
from spectra.engine.cache import FactorCache
from spectra.errors import RunError, SpecificationError
from spectra.models import resolve_model
from spectra.records.provenance import versions
from spectra.records.selection import DEFAULT
from spectra.scanning.settings import ScanSettings
from spectra.sweep.execution.schedule import OnEvent
from spectra.sweep.spec.values import resolved_alpha
from spectra.sweep.sweep import Executor
from spectra.training.families import FAMILIES
from spectra.training.modules import head_modules, is_transposed
from spectra.training.settings import Precision

TaskLike = str | Mapping[str, Any]
RULES_OF_THUMB = (8, 16)  # ranks, with alpha = 2r everywhere
TIMES_FULL = 10  # "LoRA takes ten times the rate of full fine-tuning"


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


@dataclass(frozen=True)
class _Rates:
    """The rates that are advised for the adapter, and those of full fine-tuning."""

    lora: list[float]
    full: list[float] | None

    @property
    def middle(self) -> float:
        return self.lora[len(self.lora) // 2]


def planned_from(
    pilot: Pilot,
    asked: AdviceSettings,
    *,
    steps: int,
    tolerance: float,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
) -> TrainingPlan:
    """The plan that follows from a pilot.

    Raises:
        RunError: If the pilot failed at every rate.
    """
    if pilot.trained.best("lora").empty:
        raise RunError(
            f"The pilot failed at every learning rate: {pilot.trained.trials['error'].iloc[0]} "
            "Check the weights of the base and the texts of the task."
        )
    evidence = read_evidence(pilot.trained.run.path, None, DEFAULT)
    found = advised_matrices(evidence, asked, cache, progress)
    # Alpha follows the rule: what the pilot's own scale would do is told by the risks, rate by rate.
    given = tuple(replace(one, alpha=resolved_alpha(asked.alpha, one.rank)) for one in found.matrices)
    advice = Advice(
        base=pilot.settings.base,
        keep=asked.rule.keep,
        k=asked.scan.k,
        epsilon=asked.scan.epsilon,
        evidence=(),
        matrices=given,
        versions=versions(),
        budget=asked.rule.budget,
    )
    expected = expectations(pilot, steps)
    rates = _rates(pilot, advice, expected)
    matrices = tuple(_matrix(one, rates.lora, pilot, expected) for one in given)
    points = tuple(_points(pilot))
    cost = next((one for one in points if one.method == "lora" and one.chosen), None)
    return TrainingPlan(
        base=pilot.settings.base,
        task=str(pilot.trained.trials["task"].iloc[0]),
        steps=steps,
        tolerance=tolerance,
        advice=advice,
        rates=tuple(_forecast(rate, rates, matrices, given, expected, tolerance) for rate in rates.lora),
        matrices=matrices,
        pilots=points,
        seconds=None if cost is None or cost.seconds_per_step is None else steps * cost.seconds_per_step,
        peak_memory_bytes=None if cost is None else cost.peak_memory_bytes,
        specification=_sweep(pilot, advice, rates, steps),
        adapter=_adapter(pilot, advice),
        evidence=tuple(_evidence(pilot, found.moved, found.total, advice, rates, expected)),
        warnings=evidence.warnings,
        versions=advice.versions,
    )


def _rates(pilot: Pilot, advice: Advice, expected: Expectations) -> _Rates:
    """The pilot's best rates, lowered for the longer training, the adapter's carried over to its ranks and alphas."""
    rank, alpha = _typical(advice.matrices)
    mine = pilot.trained.middle("lora") or FIRST["lora"]
    middle = carried_over(expected.lowered(mine, "lora"), (2.0, pilot.settings.rank), (alpha / rank, rank))
    full = pilot.trained.middle("full") if "full" in pilot.trained.rates else None
    return _Rates(grid(middle), None if full is None else grid(expected.lowered(full, "full")))


def _typical(matrices: Sequence[MatrixAdvice]) -> tuple[int, float]:
    """One rate serves all matrices: rank and alpha of the typical one."""
    return max(1, round(median(one.rank for one in matrices))), median(one.alpha for one in matrices)


def _matrix(one: MatrixAdvice, rates: Sequence[float], pilot: Pilot, expected: Expectations) -> PlannedMatrix:
    critical = None if one.critical is None or one.spectral is None else one.critical
    sizes = [expected.size(one.name, "lora", rate, one.rank, one.alpha) for rate in rates]
    limit = None if critical is None or one.spectral is None else critical.predicted * one.spectral
    gradient = expected.gradients.get(one.name)
    update = expected.updates.get(one.name, {})
    scaled = {
        name: None if critical is None or one.spectral is None or (value := getattr(critical, name)) is None
        else value * one.spectral
        for name in ("low", "high", "safe")
    }  # fmt: skip
    return PlannedMatrix(
        name=one.name,
        layer=one.layer,
        role=one.role,
        shape=one.shape,
        rank=one.rank,
        alpha=one.alpha,
        energy_kept=one.energy_kept,
        gradient_share=None if gradient is None else gradient["share"],
        gradient_rank=None if gradient is None else gradient["effective_rank"],
        update_rank=update.get("effective_rank"),
        update_relative=update.get("relative"),
        critical=limit,
        critical_low=scaled["low"],
        critical_high=scaled["high"],
        safe=scaled["safe"],
        sizes=tuple(sizes),
        risks=tuple(None if size is None or limit is None else expected.risk(size, limit, "lora") for size in sizes),
    )


def _forecast(
    rate: float,
    rates: _Rates,
    matrices: Sequence[PlannedMatrix],
    given: Sequence[MatrixAdvice],
    expected: Expectations,
    tolerance: float,
) -> RateForecast:
    place = rates.lora.index(rate)
    known = [(one.sizes[place], one.critical) for one in matrices]
    mean, low, high = expected.with_intruders([(size, limit) for size, limit in known if size and limit], "lora")
    rank, alpha = _typical(given)
    return RateForecast(
        learning_rate=rate,
        is_middle=rate == rates.middle,
        with_intruders=mean,
        low=low,
        high=high,
        forgetting=expected.forgetting("lora", rate, rank, alpha, tolerance),
    )


def _points(pilot: Pilot) -> Iterator[PilotPoint]:
    lost = pilot.trained.run.table("forgetting")
    for row in pilot.trained.trials.sort_values(["method", "learning_rate"], ascending=[False, True]).to_dict(
        "records"
    ):
        done = row["status"] == "done"
        mine = lost[lost["trial"] == row["trial"]]
        yield PilotPoint(
            method=str(row["method"]),
            learning_rate=float(row["learning_rate"]),
            validation_score=float(row["validation_score"]) if done else None,
            chosen=bool(row["chosen"]) if done else False,
            seconds_per_step=float(row["train_seconds"]) / int(row["steps"]) if done else None,
            peak_memory_bytes=int(row["peak_memory_bytes"]) if done else None,
            forgetting={str(one["heldout"]): float(one["forgetting"]) for one in mine.to_dict("records")},
        )


def _sweep(pilot: Pilot, advice: Advice, rates: _Rates, steps: int) -> dict[str, Any]:
    """The advice, the rules of thumb at fair rates and at theirs, and full fine-tuning."""
    rank, alpha = _typical(advice.matrices)
    methods: list[dict[str, Any]] = [{"method": "lora", **advice.method_fields(), "learning_rate": rates.lora}]
    smallest = min(min(one.shape) for one in advice.matrices)
    for thumb in RULES_OF_THUMB:
        if thumb <= smallest:
            own = set(grid(carried_over(rates.middle, (alpha / rank, rank), (2.0, thumb))))
            if rates.full is not None:
                own.add(rounded(TIMES_FULL * rates.full[len(rates.full) // 2]))
            methods.append({"method": "lora", "rank": [thumb], "alpha": ["2r"], "learning_rate": sorted(own)})
    if rates.full is not None:
        methods.append({"method": "full", "learning_rate": rates.full})
    specification = pilot.settings.specification(
        methods, title="Test of a plan: advised ranks, rules of thumb, full fine-tuning", steps=steps, keep="all"
    )
    return specification.model_dump(mode="json", exclude_unset=True)


def _adapter(pilot: Pilot, advice: Advice) -> dict[str, Any]:
    """An adapter_config.json for `peft.LoraConfig.from_pretrained`."""
    model = pilot.built.model
    return {
        "peft_type": "LORA",
        "task_type": FAMILIES[pilot.built.family].task_type,
        "base_model_name_or_path": resolve_model(pilot.settings.base),
        **advice.lora_config(),
        "modules_to_save": head_modules(model) or None,
        "fan_in_fan_out": is_transposed(model),
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": False,
    }


def _evidence(
    pilot: Pilot, moved: int, total: int, advice: Advice, rates: _Rates, expected: Expectations
) -> Iterator[str]:
    """What the plan rests on, and what it cannot say."""
    trained = pilot.trained
    for method, what in (("lora", f"LoRA of rank {pilot.settings.rank}"), ("full", "full fine-tuning")):
        if method not in trained.rates:
            continue
        tried = ", ".join(f"{rate:g}" for rate in trained.rates[method])
        best = trained.middle(method)
        if best is None:
            yield f"Pilot: {pilot.settings.steps} steps of {what} at {tried}, which failed at every rate."
            continue
        score = trained.score(method, best)
        equal = sum(trained.score(method, rate) == score for rate in trained.rates[method])
        yield (
            f"Pilot: {pilot.settings.steps} steps of {what} at learning rates {tried}; validation prefers {best:g} "
            f"(score {score:.4g})" + (f", but {equal} rates score the same." if equal > 1 else ".")
        )
    source = "full fine-tuning" if "full" in trained.rates and not trained.best("full").empty else "LoRA"
    yield f"Ranks and target modules: from the energy of the update of {source} at that rate (asked: {advice.asked})."
    if source == "LoRA":
        yield "All weights were not trained, and an update through factors cannot show more than its own rank."
    if pilot.gradient is None:
        yield f"The gradient was not measured: {pilot.reason or 'its step failed.'}"
    else:
        how = "of all weights" if pilot.settings.full else f"seen through {pilot.settings.rank} random directions"
        yield f"Gradient: the mean over a few batches, clipped, {how}."
    if moved < total or len(advice.matrices) < moved:
        yield f"{total - len(advice.matrices)} of {total} matrices get no rank and are left out."
    yield expected.rate_sentence(len(rates.lora))
    yield from expected.sentences()
