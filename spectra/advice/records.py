"""The frozen records of advice: plain numbers, what they rest on, and the configuration that peft takes."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from spectra.records.verdicts import html_table

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "spectra-advice-1"
# Columns of the trials table that a verification compares.
FIGURES = ("learning_rate", "validation_score", "task_score", "count", "update_frobenius", "trainable_parameters")


@dataclass(frozen=True)
class CriticalScale:
    """How many times an update could be scaled before one of the k leading vectors is an intruder.

    Multiples of the update as it was trained; below 1 it has an intruder already.

    Attributes:
        predicted: For a random direction of the update's spectral norm, from W0's singular values alone: the median
            over draws.
        low: The first decile of the draws.
        high: The last decile.
        own: The smallest over the update's own singular directions, each taken alone; None where W0's singular vectors
            were not at hand, or none of them ever makes an intruder.
        measured: Where the scan of W0 + multiple * delta_W first counts one; None where it was not measured, or where
            there is none up to `searched`.
        searched: The largest multiple that was scanned; None where it was not measured.
        safe: Below it no update of this spectral norm makes an intruder, whatever its directions
            (`metrics.safe_size`); None where not every singular value of W0 is known.
    """

    predicted: float
    low: float
    high: float
    own: float | None = None
    measured: float | None = None
    searched: float | None = None
    safe: float | None = None

    @property
    def best(self) -> float | None:
        """What is known best: measured, else predicted from the update's own directions, else for a random one.

        None where scaling up to `searched` made no intruder.
        """
        if self.searched is not None:
            return self.measured
        return self.own if self.own is not None else self.predicted

    def times(self, factor: float) -> "CriticalScale":
        """Every figure times a factor: with the spectral norm of the update, multiples of it become spectral norms."""
        return replace(self, **{name: value * factor for name, value in vars(self).items() if value is not None})


@dataclass(frozen=True)
class MatrixAdvice:
    """What the evidence says of one matrix.

    Attributes:
        name: Canonical name: the end of the module's name, as peft's patterns take it.
        layer: Index of the block, or None outside the blocks.
        role: Last meaningful part of the name.
        shape: (d_out, d_in).
        rank: The smallest rank that keeps the share asked for, or the largest allowed.
        energy_kept: Share of ||delta_W||_F^2 that the leading `rank` directions hold.
        alpha: Advised alpha of plain LoRA: scaling * rank.
        frobenius: ||delta_W||_F of the update that the rank was read from.
        spectral: Largest singular value of the update that the threshold speaks of; None without one.
        alpha_in_use: Its alpha, scaled to the advised rank: scaling * rank; None for a full update.
        critical: Its critical multiples; None where no threshold was asked for or the update is zero.
    """

    name: str
    layer: int | None
    role: str
    shape: tuple[int, int]
    rank: int
    energy_kept: float
    alpha: float
    frobenius: float
    spectral: float | None = None
    alpha_in_use: float | None = None
    critical: CriticalScale | None = None

    @property
    def critical_alpha(self) -> float | None:
        """The alpha at which the trained factors, at the advised rank, make their first intruder."""
        if self.critical is None or self.alpha_in_use is None or self.critical.best is None:
            return None
        return self.alpha_in_use * self.critical.best

    @property
    def critical_sizes(self) -> CriticalScale | None:
        """The critical multiples as spectral norms of the update."""
        return None if self.critical is None or self.spectral is None else self.critical.times(self.spectral)


@dataclass(frozen=True)
class Outcome:
    """One configuration, averaged over its seeds.

    Attributes:
        label: "advised", or what the run calls it.
        seeds: How many trials stand behind the figures.
        figures: Of the columns `FIGURES` of the trials table; None where a trial has none.
        forgetting: By held-out task.
    """

    label: str
    seeds: int
    figures: dict[str, float | None]
    forgetting: dict[str, float]


@dataclass(frozen=True)
class TriedRate:
    """One learning rate of a verification.

    Attributes:
        learning_rate: The rate.
        validation_score: Mean over the seeds, by which the rate was chosen; None where every training failed.
    """

    learning_rate: float
    validation_score: float | None


@dataclass(frozen=True)
class Verification:
    """Prediction against outcome.

    Attributes:
        run: The folder that holds the advised trials.
        outcomes: The advised configuration at its chosen rate first, then the run's own full and LoRA trials.
        matrices: Matrices and seeds whose threshold was predicted.
        predicted: Of these, where the trained update exceeds the predicted critical size.
        found: Where the scan counts an intruder.
        agreeing: Where both say the same.
        rates: All learning rates that were tried, with the validation scores that chose among them.
    """

    run: str
    outcomes: tuple[Outcome, ...]
    matrices: int
    predicted: int
    found: int
    agreeing: int
    rates: tuple[TriedRate, ...] = ()

    @property
    def choice(self) -> str:
        """Which rates were tried, and which the validation split chose."""
        tried = ", ".join(f"{one.learning_rate:g} ({number(one.validation_score)})" for one in self.rates)
        chosen = self.outcomes[0].figures["learning_rate"]
        edge = chosen in (self.rates[0].learning_rate, self.rates[-1].learning_rate)
        told = f"Learning rates by validation score: {tried}; chosen: {chosen:g}"
        return f"{told}, at the edge of the grid: a better one may lie beyond it." if edge else f"{told}."

    def sentence(self) -> str:
        """What became of the predicted thresholds."""
        return (
            f"Intruders were predicted in {self.predicted} and found in {self.found} of {self.matrices} trained "
            f"matrices; prediction and outcome agree in {self.agreeing}."
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON object."""
        return asdict(self)

    def _repr_html_(self) -> str:
        """One row per configuration, for notebooks."""
        rows = [(one.label, str(one.seeds), *(number(one.figures[name]) for name in FIGURES)) for one in self.outcomes]
        return html_table(
            f"Prediction against outcome ({self.run})",
            ("configuration", "seeds", *FIGURES),
            rows,
            [self.choice, self.sentence()],
        )


@dataclass(frozen=True)
class Advice:
    """Rank and alpha per matrix, and what they rest on.

    Attributes:
        base: The base.
        keep: Share of the update's energy asked for.
        k: Leading vectors per matrix, of the intruder thresholds.
        epsilon: Cosine below which a vector counts.
        evidence: Sentences: which checkpoints, how many matrices, how many seeds, and what was not looked at.
        matrices: One entry per matrix.
        warnings: Sentences that a reader of the numbers has to know.
        versions: Versions of the software that computed it.
        verification: What became of it in training; None where it was not tried.
        budget: Trained numbers asked for at most, instead of a share.
    """

    base: str
    keep: float
    k: int
    epsilon: float
    evidence: tuple[str, ...]
    matrices: tuple[MatrixAdvice, ...]
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    verification: Verification | None = None
    budget: int | None = None

    @property
    def asked(self) -> str:
        """How the ranks were asked for, in words."""
        if self.budget is not None:
            return f"at most {self.budget:,} numbers"
        return f"{100 * self.keep:g} % of each matrix"

    @property
    def energy_kept(self) -> float:
        """Share of the squared norm of the whole update that the advised ranks keep."""
        return _weighted([(matrix.frobenius**2, matrix.energy_kept) for matrix in self.matrices])

    @property
    def parameters(self) -> int:
        """Trained numbers of the advised adapter: sum of rank * (d_out + d_in)."""
        return sum(matrix.rank * sum(matrix.shape) for matrix in self.matrices)

    def lora_config(self) -> dict[str, Any]:
        """Keyword arguments of `peft.LoraConfig`: the commonest rank and alpha, and patterns for the exceptions."""
        ranks = Counter(matrix.rank for matrix in self.matrices)
        alphas = Counter(matrix.alpha for matrix in self.matrices)
        rank, alpha = ranks.most_common(1)[0][0], alphas.most_common(1)[0][0]
        return {
            "r": rank,
            "lora_alpha": alpha,
            "target_modules": [matrix.name for matrix in self.matrices],
            "rank_pattern": {matrix.name: matrix.rank for matrix in self.matrices if matrix.rank != rank},
            "alpha_pattern": {matrix.name: matrix.alpha for matrix in self.matrices if matrix.alpha != alpha},
        }

    def method_fields(self) -> dict[str, Any]:
        """The configuration as fields of a method in the specification of a sweep."""
        configuration = self.lora_config()
        return {
            "rank": [configuration["r"]],
            "alpha": [configuration["lora_alpha"]],
            "arguments": {name: configuration[name] for name in ("target_modules", "rank_pattern", "alpha_pattern")},
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per matrix."""
        for matrix in self.matrices:
            row = asdict(matrix)
            critical = row.pop("critical") or {}
            yield {
                **row,
                "critical_alpha": matrix.critical_alpha,
                **{f"critical_{name}": critical.get(name) for name in CriticalScale.__dataclass_fields__},
            }

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON object of `spectra advise`: keys are added, never renamed."""
        return {
            "format": FORMAT,
            "base": self.base,
            "keep": self.keep,
            "budget": self.budget,
            "k": self.k,
            "epsilon": self.epsilon,
            "energy_kept": self.energy_kept,
            "parameters": self.parameters,
            "evidence": list(self.evidence),
            "lora_config": self.lora_config(),
            "matrices": list(self.rows()),
            "warnings": list(self.warnings),
            "versions": dict(self.versions),
            **({"verification": self.verification.to_dict()} if self.verification is not None else {}),
        }

    def to_dataframe(self) -> "pd.DataFrame":
        """One row per matrix as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def _repr_html_(self) -> str:
        """One row per matrix, for notebooks, with the evidence below."""
        caption = (
            f"{100 * self.energy_kept:.1f} % of the update's energy with {self.parameters} trained numbers "
            f"(asked: {self.asked})"
        )
        rows = [
            (m.name, str(m.rank), f"{100 * m.energy_kept:.1f} %", f"{m.alpha:g}", number(m.critical_alpha))
            for m in self.matrices
        ]
        headings = ("matrix", "rank", "energy kept", "alpha", "intruders from alpha")
        return html_table(caption, headings, rows, (*self.evidence, *self.warnings))


def number(value: float | None) -> str:
    """A number in three digits, or a dash."""
    return "–" if value is None else f"{value:.3g}"


def _weighted(parts: list[tuple[float, float]]) -> float:
    total = sum(weight for weight, _ in parts)
    return sum(weight * value for weight, value in parts) / total if total > 0 else 0.0
