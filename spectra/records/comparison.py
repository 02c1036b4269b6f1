"""The record of several checkpoints of one base side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from spectra.records.scan import Scan
from spectra.records.verdicts import OneSide, html_table

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "spectra-comparison-1"
Rows = Literal["checkpoints", "pairs", "overlaps"]

# Columns of the checkpoints table and the metrics behind them (`measures.METRICS`).
FIGURES: Mapping[str, str] = {
    "count": "intruders.count",
    "energy_share": "intruders.energy_share",
    "frobenius": "update.frobenius",
    "relative": "update.relative",
    "effective_rank": "update.effective_rank",
    "stable_rank": "update.stable_rank",
    "rank_90": "update.rank_90",
}


@dataclass(frozen=True)
class Overlap:
    """The leading subspaces of two updates of one matrix.

    Attributes:
        first: Position of one checkpoint, from 0.
        second: Position of the other.
        name: Canonical name of the matrix.
        layer: Index of the block, or None outside the blocks.
        role: Last meaningful part of the name.
        side: Left (outputs, d_out) or right (inputs, d_in) singular vectors.
        dimensions: Leading directions of each update; fewer than asked for where an update has no more.
        phi: ||U_1^H U_2||_F^2 / min(i, j).
        expected: Its expectation for random subspaces, max(i, j) / d.
        most: The largest of the simulated random subspaces.
    """

    first: int
    second: int
    name: str
    layer: int | None
    role: str
    side: OneSide
    dimensions: tuple[int, int]
    phi: float
    expected: float
    most: float

    @property
    def above_chance(self) -> bool:
        """True when phi exceeds every simulated pair of random subspaces."""
        return self.phi > self.most


@dataclass(frozen=True)
class PairSummary:
    """Two checkpoints over all matrices that both changed.

    Attributes:
        first: Name of one checkpoint.
        second: Name of the other.
        side: Left or right singular vectors.
        matrices: How many were compared.
        phi: Mean over matrices.
        expected: Mean expectation for random subspaces.
        above_chance: Matrices whose phi exceeds every simulated one.
        least_alike: The matrix with the smallest phi.
        most_alike: The matrix with the largest.
    """

    first: str
    second: str
    side: OneSide
    matrices: int
    phi: float
    expected: float
    above_chance: int
    least_alike: str
    most_alike: str


@dataclass(frozen=True)
class Comparison:
    """Checkpoints of one base side by side.

    Attributes:
        scans: One scan per checkpoint (groups intruders and update), in the order given.
        overlaps: One entry per pair of checkpoints, matrix that both changed, and side.
        top: Leading directions of each update that were compared.
        draws: Simulated pairs of random subspaces behind each null.
        seed: Of the simulation.
        warnings: Sentences that a reader of the numbers has to know.
        versions: Versions of the software that computed it.
    """

    scans: tuple[Scan, ...]
    overlaps: tuple[Overlap, ...]
    top: int
    draws: int
    seed: int
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """Their names, in the order given."""
        return tuple(scan.checkpoint for scan in self.scans)

    def pairs(self) -> tuple[PairSummary, ...]:
        """One summary per pair and side; a pair that shares no changed matrix has none."""
        found = (
            self._summary(first, second, side)
            for first, second in combinations(range(len(self.scans)), 2)
            for side in ("left", "right")
        )
        return tuple(summary for summary in found if summary is not None)

    def _summary(self, first: int, second: int, side: str) -> PairSummary | None:
        mine = [o for o in self.overlaps if (o.first, o.second, o.side) == (first, second, side)]
        if not mine:
            return None
        by_phi = sorted(mine, key=lambda overlap: overlap.phi)
        return PairSummary(
            first=self.checkpoints[first],
            second=self.checkpoints[second],
            side=mine[0].side,
            matrices=len(mine),
            phi=sum(overlap.phi for overlap in mine) / len(mine),
            expected=sum(overlap.expected for overlap in mine) / len(mine),
            above_chance=sum(overlap.above_chance for overlap in mine),
            least_alike=by_phi[0].name,
            most_alike=by_phi[-1].name,
        )

    def rows(self, kind: Rows = "overlaps") -> Iterator[dict[str, Any]]:
        """Flat rows: of checkpoints, of pairs and sides, or of pairs, sides and matrices."""
        if kind == "checkpoints":
            for scan in self.scans:
                figures = {column: scan.total(metric) for column, metric in FIGURES.items()}
                yield {"checkpoint": scan.checkpoint, "base": scan.base, "matrices": len(scan.matrices), **figures}
        elif kind == "pairs":
            yield from (asdict(pair) for pair in self.pairs())
        else:
            for overlap in self.overlaps:
                names = {"first": self.checkpoints[overlap.first], "second": self.checkpoints[overlap.second]}
                yield {**asdict(overlap), **names, "above_chance": overlap.above_chance}

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON object of `spectra compare`: keys are added, never renamed."""
        return {
            "format": FORMAT,
            "top": self.top,
            "draws": self.draws,
            "seed": self.seed,
            **{kind: list(self.rows(kind)) for kind in ("checkpoints", "pairs", "overlaps")},
            "scans": [scan.to_dict() for scan in self.scans],
            "warnings": list(self.warnings),
            "versions": dict(self.versions),
        }

    def to_dataframe(self, rows: Rows = "overlaps") -> "pd.DataFrame":
        """One of the tables of `rows` as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows(rows)))

    def _repr_html_(self) -> str:
        """Checkpoints and pairs, for notebooks; `to_dataframe` has every matrix."""
        figures = html_table(
            f"{len(self.scans)} checkpoints of {self.scans[0].base if self.scans else 'no base'}",
            ("checkpoint", "matrices", *FIGURES),
            [(r["checkpoint"], str(r["matrices"]), *_numbers(r, FIGURES)) for r in self.rows("checkpoints")],
            self.warnings,
        )
        pairs = html_table(
            f"phi of the {self.top} leading directions of two updates, mean over matrices, beside chance",
            ("first", "second", "side", "phi", "chance", "above chance", "matrices"),
            [
                (p.first, p.second, p.side, f"{p.phi:.3f}", f"{p.expected:.3f}", str(p.above_chance), str(p.matrices))
                for p in self.pairs()
            ],
        )
        return figures + pairs


def _numbers(row: Mapping[str, Any], columns: Sequence[str] | Mapping[str, str]) -> list[str]:
    return ["–" if row[column] is None else f"{row[column]:.4g}" for column in columns]
