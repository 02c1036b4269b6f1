"""The plan that follows from a pilot: ranks from its updates, rates from its scores, risks from the growth of both."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from spectra.advice.advise import AdviceSettings, Progress, advised_matrices
from spectra.advice.evidence import read_evidence
from spectra.advice.planning.expectations import Expectations, expectations
from spectra.advice.planning.pilot import FIRST, Pilot
from spectra.advice.planning.records import PilotPoint, PlannedMatrix, RateForecast, TrainingPlan
from spectra.advice.rates import carried_over, grid, rounded
from spectra.advice.records import Advice, MatrixAdvice
from spectra.engine.cache import FactorCache
from spectra.errors import RunError
from spectra.models import resolve_model
from spectra.records.provenance import versions
from spectra.records.selection import DEFAULT
from spectra.sweep.spec.values import resolved_alpha
from spectra.training.families import FAMILIES
from spectra.training.modules import head_modules, is_transposed

RULES_OF_THUMB = (8, 16)  # ranks, with alpha = 2r everywhere
TIMES_FULL = 10  # "LoRA takes ten times the rate of full fine-tuning"


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
    matrices = tuple(_matrix(one, rates.lora, expected) for one in given)
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


def _matrix(one: MatrixAdvice, rates: Sequence[float], expected: Expectations) -> PlannedMatrix:
    critical = one.critical_sizes
    sizes = [expected.size(one.name, "lora", rate, one.rank, one.alpha) for rate in rates]
    gradient, update = expected.gradients.get(one.name, {}), expected.updates.get(one.name, {})
    return PlannedMatrix(
        name=one.name,
        layer=one.layer,
        role=one.role,
        shape=one.shape,
        rank=one.rank,
        alpha=one.alpha,
        energy_kept=one.energy_kept,
        gradient_share=gradient.get("share"),
        gradient_rank=gradient.get("effective_rank"),
        update_rank=update.get("effective_rank"),
        update_relative=update.get("relative"),
        critical=None if critical is None else critical.predicted,
        critical_low=None if critical is None else critical.low,
        critical_high=None if critical is None else critical.high,
        safe=None if critical is None else critical.safe,
        sizes=tuple(sizes),
        risks=tuple(
            None if size is None or critical is None else expected.risk(size, critical.predicted, "lora")
            for size in sizes
        ),
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
