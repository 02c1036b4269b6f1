"""The frozen record of one scanned matrix: its verdicts, its measured metrics, its controls."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, TypeVar

from spectra.records.measures import Grid, Measure, NullLine, UpdateNorms
from spectra.records.verdicts import OneSide, VectorVerdict, html_table

T = TypeVar("T")
VERDICT = tuple(one.name for one in fields(VectorVerdict))


@dataclass(frozen=True)
class LeadingVector(VectorVerdict):
    """Position j among the leading singular triplets: the verdict on y_j, and what else is known there.

    Attributes:
        base_singular_value: S0_j, the singular value of W0 at the same position; None when alignment was not asked for.
        retention: u_j^H W_tuned v_j / S0_j of the *base* triplet j: 1 where tuning left it alone.
        windowed_lower: Proven lower bound of the square root of the largest energy of y_j in 16 neighbouring u_i.
        windowed_upper: Proven upper bound of the same.
    """

    base_singular_value: float | None = None
    retention: float | None = None
    windowed_lower: float | None = None
    windowed_upper: float | None = None

    @classmethod
    def of(cls, verdict: VectorVerdict, **beside: float | None) -> "LeadingVector":
        """A verdict, and what is known beside it."""
        return cls(**{**vars(verdict), **beside})

    @property
    def verdict(self) -> VectorVerdict:
        """The verdict alone."""
        return VectorVerdict(**{name: getattr(self, name) for name in VERDICT})


@dataclass(frozen=True)
class ControlVerdicts:
    """The leading vectors of a matrix that no training made, in the place of the tuned one."""

    null: str
    vectors: tuple[VectorVerdict, ...]


@dataclass(frozen=True)
class MatrixScan:
    """All that was found out about one weight matrix.

    Attributes:
        name: Canonical name.
        layer: Index of the block, or None outside the blocks.
        role: Last meaningful part of the name, such as "q_proj" or "intermediate.dense".
        block: "attention", "mlp", "expert" or "other".
        shape: (d_out, d_in).
        rank: Rank of the LoRA update, or None for a dense one.
        alpha: LoRA's alpha, where the method has one.
        scaling: Factor on B @ A, where the method has one.
        method: How the verdicts were reached: "exact", "certified" or "cached-basis".
        measures: One entry per metric and side.
        vectors: The leading k vectors, left before right when both sides were asked for.
        grids: phi and similarity grids.
        base_values: Leading singular values of W0 (all of them where they were computed).
        tuned_values: Leading singular values of W_tuned.
        update_values: Singular values of delta_W: all of a low-rank update, the leading ones of a dense one.
        seconds: Time spent, by group.
        base_frobenius: ||W0||_F, where norms were measured.
        controls: Verdicts on the controls, where they were asked for.
        reads: How often "W0" and "W_tuned" were read, in whole files' worth, where they do not fit the memory budget.
    """

    name: str
    layer: int | None
    role: str
    block: str
    shape: tuple[int, int]
    rank: int | None = None
    alpha: float | None = None
    scaling: float | None = None
    method: str = ""
    measures: tuple[Measure, ...] = ()
    vectors: tuple[LeadingVector, ...] = ()
    grids: tuple[Grid, ...] = ()
    base_values: tuple[float, ...] = ()
    tuned_values: tuple[float, ...] = ()
    update_values: tuple[float, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    base_frobenius: float | None = None
    controls: tuple[ControlVerdicts, ...] = ()
    reads: Mapping[str, float] | None = None

    def measure(self, metric: str, side: OneSide | None = None) -> Measure | None:
        """The entry of a metric; of the left side first where no side is named. None when it was not measured."""
        found = [m for m in self.measures if m.metric == metric and (side is None or m.side in (None, side))]
        return found[0] if found else None

    def value(self, metric: str, side: OneSide | None = None) -> float | None:
        """The number of a metric, or None."""
        measure = self.measure(metric, side)
        return measure.value if measure is not None else None

    def side_vectors(self, side: OneSide) -> tuple[LeadingVector, ...]:
        """The verdicts of one side, by decreasing singular value."""
        return tuple(vector for vector in self.vectors if vector.side == side)

    def count_at(self, epsilon: float, side: OneSide) -> int:
        """Number of intruders of one side at an epsilon that the scan was asked to decide."""
        return sum(vector.upper < epsilon for vector in self.side_vectors(side))

    @property
    def primary_side(self) -> OneSide:
        """The side that `count` speaks of: left, as in the paper, unless only right vectors were scanned."""
        return "left" if any(vector.side == "left" for vector in self.vectors) else "right"

    @property
    def count(self) -> int:
        """Number of intruders at the scan's epsilon, on the primary side."""
        return sum(vector.is_intruder for vector in self.side_vectors(self.primary_side))

    @property
    def energy_share(self) -> float:
        """Share of the leading k vectors' energy that intruders hold: sum_I S_j^2 / sum_{j<=k} S_j^2."""
        vectors = self.side_vectors(self.primary_side)
        total = sum(vector.singular_value**2 for vector in vectors)
        intruding = sum(vector.singular_value**2 for vector in vectors if vector.is_intruder)
        return intruding / total if total > 0 else 0.0

    @property
    def update(self) -> UpdateNorms | None:
        """Norms of delta_W, where all of them were measured."""
        return UpdateNorms.of(self.measures)

    def to_dict(self) -> dict[str, Any]:
        """The entry of the matrix in the JSON of `spectra scan`."""
        entry = asdict(self)
        entry["vectors"] = [_nested(vector) for vector in entry["vectors"]]
        return entry

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> "MatrixScan":
        """The record that `to_dict` gave; keys that a later version added are left out."""
        own = dict(entry)
        for name in ("shape", "base_values", "tuned_values", "update_values"):
            own[name] = tuple(own.get(name, ()))
        own["measures"] = tuple(_measure(measure) for measure in own.get("measures", ()))
        own["vectors"] = tuple(record(LeadingVector, {**one, **one.get("verdict", {})}) for one in own["vectors"])
        own["grids"] = tuple(Grid.from_dict(grid) for grid in own.get("grids", ()))
        own["controls"] = tuple(
            ControlVerdicts(one["null"], tuple(record(VectorVerdict, vector) for vector in one["vectors"]))
            for one in own.get("controls", ())
        )
        return record(cls, own)

    def _repr_html_(self) -> str:
        """One row per leading vector, for notebooks."""
        caption = f"{self.name}: {self.count} of {len(self.side_vectors(self.primary_side))} leading vectors intrude"
        headings = ("j", "side", "singular value", "max |cos|", "intruder", "decided by")
        rows = [
            (
                str(vector.index),
                vector.side,
                f"{vector.singular_value:.4g}",
                _bracket(vector),
                ("yes" if vector.is_intruder else "no") + (" (ill-conditioned)" if vector.ill_conditioned else ""),
                vector.decided_by,
            )
            for vector in self.vectors
        ]
        return html_table(caption, headings, rows)


def record(kind: type[T], entry: Mapping[str, Any]) -> T:
    """A record from JSON; keys that a later version added are left out."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in entry.items() if name in known})


def _measure(entry: Mapping[str, Any]) -> Measure:
    return record(Measure, {**entry, "nulls": tuple(record(NullLine, line) for line in entry["nulls"])})


def _nested(vector: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict on a vector under a key of its own, beside what else is known of it."""
    verdict = {name: vector[name] for name in VERDICT}
    return {"verdict": verdict, **{name: value for name, value in vector.items() if name not in verdict}}


def _bracket(vector: VectorVerdict) -> str:
    """The largest cosine: one figure where it is known to three digits, else the proven bracket."""
    low, high = f"{vector.lower:.3f}", f"{vector.upper:.3f}"
    return low if low == high else f"{low} to {high}"
