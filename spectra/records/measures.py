"""The frozen records of one matrix: a number with what is known of it, and the values that controls give."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from spectra.records.intruder_scan import OneSide, VectorVerdict

How = Literal["exact", "estimate", "at most", "at least", "not computed"]


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


@dataclass(frozen=True)
class LeadingVector:
    """Position j among the leading singular triplets, of W_tuned and of W0.

    Attributes:
        verdict: Intruder or not, with the bracket of max_i |<u_i, y_j>|.
        base_singular_value: S0_j, the singular value of W0 at the same position; None when alignment was not asked for.
        retention: u_j^H W_tuned v_j / S0_j of the *base* triplet j: 1 where tuning left it alone.
        windowed_lower: Proven lower bound of the square root of the largest energy of y_j in 16 neighbouring u_i.
        windowed_upper: Proven upper bound of the same.
    """

    verdict: VectorVerdict
    base_singular_value: float | None = None
    retention: float | None = None
    windowed_lower: float | None = None
    windowed_upper: float | None = None


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


@dataclass(frozen=True)
class MatrixMeasures:
    """All that was measured of one weight matrix.

    Attributes:
        name: Canonical name.
        layer: Index of the block, or None outside the blocks.
        role: Last meaningful part of the name, such as "q_proj".
        block: "attention", "mlp", "expert" or "other".
        shape: (d_out, d_in).
        rank: Rank of the LoRA update, or None for a dense one.
        alpha: LoRA's alpha, where the method has one.
        scaling: Factor on B @ A, where the method has one.
        method: How the intruder verdicts were reached.
        measures: One entry per metric and side.
        vectors: The leading k vectors, left before right when both sides were asked for.
        grids: phi and similarity grids.
        base_values: Leading singular values of W0 (all of them where they were computed).
        tuned_values: Leading singular values of W_tuned.
        update_values: Singular values of delta_W: all of a low-rank update, the leading ones of a dense one.
        seconds: Time spent, by group.
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

    def measure(self, metric: str, side: OneSide | None = None) -> Measure | None:
        """The entry of a metric; of the left side first where no side is named. None when it was not measured."""
        found = [m for m in self.measures if m.metric == metric and (side is None or m.side in (None, side))]
        return found[0] if found else None

    def value(self, metric: str, side: OneSide | None = None) -> float | None:
        """The number of a metric, or None."""
        measure = self.measure(metric, side)
        return measure.value if measure is not None else None
