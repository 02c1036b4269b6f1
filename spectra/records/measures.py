"""A number with what is known of it, the values that controls give, and the norms of an update."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from spectra.records.verdicts import OneSide

How = Literal["exact", "estimate", "at most", "at least", "not computed"]
NOT_FINITE = "not a finite number in this arithmetic"


@dataclass(frozen=True)
class NullLine:
    """What a control gives for the same measure.

    Attributes:
        null: "storage rounding", "dense gaussian", "random low rank" or "random direction".
        mean: Over the draws.
        least: Over the draws.
        most: Over the draws.
        draws: How many were simulated; 0 for a closed formula.
    """

    null: str
    mean: float
    least: float
    most: float
    draws: int


@dataclass(frozen=True)
class Measure:
    """One number of one matrix.

    Attributes:
        metric: A key of `METRICS`.
        value: The number; None when it was not computed or is undefined, and `note` says why.
        how: "exact" (to rounding), "estimate" (with `error`), a bound, or "not computed".
        side: Of singular vectors: left (d_out) or right (d_in); None where the metric has no side.
        error: One standard error of an estimate.
        nulls: The controls.
        note: What a reader of this number has to know.
    """

    metric: str
    value: float | None
    how: How = "exact"
    side: OneSide | None = None
    error: float | None = None
    nulls: tuple[NullLine, ...] = ()
    note: str = ""

    def finite(self) -> "Measure":
        """The same measure, without a value where that is no finite number: no record holds NaN or infinity."""
        if self.value is not None and not math.isfinite(self.value):
            return replace(self, value=None, how="not computed", error=None, note=self.note or NOT_FINITE)
        return replace(self, error=None) if self.error is not None and not math.isfinite(self.error) else self


@dataclass(frozen=True)
class UpdateNorms:
    """Size and shape of delta_W.

    Attributes:
        frobenius: ||delta_W||_F.
        spectral: ||delta_W||_2, the largest singular value.
        relative: ||delta_W||_F / ||W0||_F; None where W0 is zero.
        effective_rank: exp(entropy of S / sum S) (Roy & Vetterli 2007); 0 for a zero update.
        stable_rank: ||delta_W||_F^2 / ||delta_W||_2^2; 0 for a zero update.
    """

    frobenius: float
    spectral: float
    relative: float | None
    effective_rank: float
    stable_rank: float

    @classmethod
    def of(cls, measures: Iterable[Measure]) -> "UpdateNorms | None":
        """The norms among some measures; None where one of them was not measured."""
        known = {m.metric.removeprefix("update."): m for m in measures if m.metric.startswith("update.")}
        names = [field.name for field in fields(cls)]
        if any(name not in known or (known[name].value is None and name != "relative") for name in names):
            return None
        return cls(**{name: known[name].value for name in names})  # type: ignore[arg-type]

    def measures(self) -> tuple[Measure, ...]:
        """The norms as measured values of metrics."""
        return tuple(
            Measure(f"update.{name}", value)
            if value is not None
            else Measure(f"update.{name}", None, "not computed", note="W0 is zero")
            for name, value in ((field.name, getattr(self, field.name)) for field in fields(self))
        )


@dataclass(frozen=True)
class Grid:
    """A table of numbers over two indices.

    Attributes:
        name: "phi" (i leading directions of delta_W against j of W0) or "similarity" (|cos| of base i and tuned j).
        side: Left or right singular vectors.
        values: Rows; for phi entry [i][j] compares subspaces of i + 1 and j + 1 dimensions.
    """

    name: str
    side: OneSide
    values: tuple[tuple[float, ...], ...]

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> "Grid":
        """The grid that JSON holds."""
        return cls(entry["name"], entry["side"], tuple(tuple(row) for row in entry["values"]))
