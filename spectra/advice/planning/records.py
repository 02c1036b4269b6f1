"""The frozen records of a plan: what a pilot measured, what is advised, and what is expected of it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from spectra.advice.records import Advice, number
from spectra.records.verdicts import html_table

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "spectra-plan-1"


@dataclass(frozen=True)
class PilotPoint:
    """One short training.

    Attributes:
        method: "lora" or "full".
        learning_rate: Peak rate.
        validation_score: At its end; None where it failed.
        chosen: Whether the validation split chose its rate.
        seconds_per_step: Time of an optimiser step.
        peak_memory_bytes: Of the GPU, or of the process.
        forgetting: By held-out task.
    """

    method: str
    learning_rate: float
    validation_score: float | None
    chosen: bool
    seconds_per_step: float | None
    peak_memory_bytes: int | None
    forgetting: Mapping[str, float]


@dataclass(frozen=True)
class ForgettingForecast:
    """What is expected to be forgotten of one held-out task.

    Attributes:
        heldout: The task.
        expected: Loss of the tuned minus the base model; None where the pilot cannot tell.
        low: Lower end of the interval.
        high: Upper end.
        risk: Probability of more than the tolerance.
    """

    heldout: str
    expected: float | None = None
    low: float | None = None
    high: float | None = None
    risk: float | None = None


@dataclass(frozen=True)
class RateForecast:
    """What is expected of the advised training at one learning rate.

    Attributes:
        learning_rate: Peak rate.
        is_middle: Whether it is the advised one; the others are its neighbours.
        with_intruders: Expected number of matrices with an intruder dimension.
        low: Lower end of its interval.
        high: Upper end.
        forgetting: By held-out task.
    """

    learning_rate: float
    is_middle: bool
    with_intruders: float
    low: float
    high: float
    forgetting: tuple[ForgettingForecast, ...] = ()


@dataclass(frozen=True)
class PlannedMatrix:
    """What is advised and expected of one matrix.

    Attributes:
        name: Canonical name: the end of the module's name.
        layer: Index of the block, or None outside the blocks.
        role: Last meaningful part of the name.
        shape: (d_out, d_in).
        rank: Advised rank.
        alpha: Advised alpha.
        energy_kept: Share of the pilot's update that the rank holds.
        gradient_share: Its share of the squared norm of the whole gradient; None where it was not measured.
        gradient_rank: Effective rank of its gradient.
        update_rank: Effective rank of the update in the pilot that decided the ranks.
        update_relative: ||delta_W||_F / ||W0||_F of that update.
        critical: Spectral norm at which a random direction makes the first intruder: the median.
        critical_low: The first decile of the draws.
        critical_high: The last.
        safe: Spectral norm below which no update whatever makes one; None where W0 was not factorised.
        sizes: Expected spectral norm of the update, by learning rate of the grid.
        risks: Probability of an intruder, by learning rate of the grid.
    """

    name: str
    layer: int | None
    role: str
    shape: tuple[int, int]
    rank: int
    alpha: float
    energy_kept: float
    gradient_share: float | None
    gradient_rank: float | None
    update_rank: float | None
    update_relative: float | None
    critical: float | None
    critical_low: float | None
    critical_high: float | None
    safe: float | None
    sizes: tuple[float | None, ...]
    risks: tuple[float | None, ...]


@dataclass(frozen=True)
class TrainingPlan:
    """What to train, why, and what to expect.

    Attributes:
        base: The base.
        task: Name of the task.
        steps: Optimiser steps of the training that is planned.
        tolerance: Forgetting that is called a risk when it is exceeded.
        advice: Ranks and alphas, and the patterns that peft takes.
        rates: The grid of learning rates, increasing.
        matrices: One entry per matrix that is trained.
        pilots: The short trainings.
        seconds: Expected time in optimiser steps; None where it is not known.
        peak_memory_bytes: Largest memory of a pilot with an adapter.
        specification: The sweep that tests the advice, as its YAML holds it.
        adapter: The content of adapter_config.json.
        evidence: Sentences: what all this rests on, and what it cannot say.
        warnings: Sentences that a reader of the numbers has to know.
        versions: Versions of the software that computed it.
    """

    base: str
    task: str
    steps: int
    tolerance: float
    advice: Advice
    rates: tuple[RateForecast, ...]
    matrices: tuple[PlannedMatrix, ...]
    pilots: tuple[PilotPoint, ...]
    seconds: float | None
    peak_memory_bytes: int | None
    specification: Mapping[str, Any]
    adapter: Mapping[str, Any]
    evidence: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def learning_rate(self) -> float:
        """The advised rate, in the middle of its neighbours."""
        return next(one.learning_rate for one in self.rates if one.is_middle)

    def lora_config(self) -> dict[str, Any]:
        """Keyword arguments of `peft.LoraConfig`."""
        return self.advice.lora_config()

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per matrix; expected sizes and risks by learning rate."""
        for matrix in self.matrices:
            row = asdict(matrix)
            sizes, risks = row.pop("sizes"), row.pop("risks")
            yield {
                **row,
                **{f"size_at_{one.learning_rate:g}": size for one, size in zip(self.rates, sizes, strict=True)},
                **{f"risk_at_{one.learning_rate:g}": risk for one, risk in zip(self.rates, risks, strict=True)},
            }

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON object of `spectra plan`: keys are added, never renamed."""
        return {
            "format": FORMAT,
            "base": self.base,
            "task": self.task,
            "steps": self.steps,
            "tolerance": self.tolerance,
            "learning_rate": self.learning_rate,
            "parameters": self.advice.parameters,
            "energy_kept": self.advice.energy_kept,
            "lora_config": self.lora_config(),
            "rates": [asdict(one) for one in self.rates],
            "pilots": [{**asdict(one), "forgetting": dict(one.forgetting)} for one in self.pilots],
            "seconds": self.seconds,
            "peak_memory_bytes": self.peak_memory_bytes,
            "matrices": [{**asdict(one), "shape": list(one.shape)} for one in self.matrices],
            "specification": dict(self.specification),
            "evidence": list(self.evidence),
            "warnings": list(self.warnings),
            "versions": dict(self.versions),
        }

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per matrix as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def _repr_html_(self) -> str:
        """The grid of rates, for notebooks, with the evidence below."""
        headings = ("learning rate", "matrices with intruders", "interval", "forgetting (risk)")
        rows = [
            (
                f"{one.learning_rate:g}" + (" (advised)" if one.is_middle else ""),
                f"{one.with_intruders:.1f} of {len(self.matrices)}",
                f"{one.low:.0f} to {one.high:.0f}",
                "; ".join(forgetting_words(lost) for lost in one.forgetting) or "not measured",
            )
            for one in self.rates
        ]
        caption = f"{self.base} on {self.task}, {self.steps} steps: {self.advice.parameters:,} trained numbers"
        return html_table(caption, headings, rows, (*self.evidence, *self.warnings))


def forgetting_words(lost: ForgettingForecast) -> str:
    """One held-out task in words."""
    if lost.expected is None:
        return f"{lost.heldout}: cannot tell"
    return (
        f"{lost.heldout}: {number(lost.expected)} [{number(lost.low)}, {number(lost.high)}]"
        f" ({100 * (lost.risk or 0):.0f} %)"
    )
