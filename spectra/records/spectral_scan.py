"""The record of one scanned checkpoint: JSON and tables, there and back."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spectra.errors import DataError
from spectra.records.catalogue import METRICS
from spectra.records.counts import EPSILONS, counts_by_epsilon, counts_by_k
from spectra.records.coverage import Coverage
from spectra.records.intruder_scan import OneSide, Side, Skipped, VectorVerdict, html_table
from spectra.records.measures import Grid, LeadingVector, MatrixMeasures, Measure, NullLine

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "spectra-scan-1"
Rows = Literal["measures", "nulls", "matrices", "vectors", "grids", "epsilons", "positions"]


@dataclass(frozen=True)
class SpectralScan:
    """All measures of one checkpoint against its base.

    Attributes:
        checkpoint: The tuned checkpoint as the user named it.
        base: The base it was compared with.
        groups: The groups of metrics that were asked for.
        k: Leading vectors looked at per matrix.
        epsilon: Cosine below which a vector counts as an intruder.
        side: Which singular vectors were looked at.
        seed: Of every simulated control and every estimate.
        matrices: One entry per compared matrix, in checkpoint order.
        skipped: What was not compared.
        warnings: Sentences that a reader of the numbers has to know.
        versions: Versions of the software that computed it.
        kind: What the checkpoint is: "full", "lora", "dora", ...
        coverage: What became of the matrices of the blocks; None in results of before it was recorded.
    """

    checkpoint: str
    base: str
    groups: tuple[str, ...]
    k: int
    epsilon: float
    side: Side
    seed: int
    matrices: tuple[MatrixMeasures, ...]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    kind: str = ""
    coverage: Coverage | None = None

    @property
    def primary_side(self) -> OneSide:
        """The side that figures of the whole checkpoint speak of: left, unless only right vectors were scanned."""
        return "right" if self.side == "right" else "left"

    @property
    def seconds(self) -> dict[str, float]:
        """Time spent, by group, over all matrices."""
        total: dict[str, float] = {}
        for matrix in self.matrices:
            for group, seconds in matrix.seconds.items():
                total[group] = total.get(group, 0.0) + seconds
        return total

    def matrix(self, name: str) -> MatrixMeasures:
        """The entry of one matrix.

        Raises:
            DataError: If no matrix has this name.
        """
        for matrix in self.matrices:
            if matrix.name == name:
                return matrix
        raise DataError(f"No matrix '{name}' in the scan of '{self.checkpoint}'. Look at scan.matrices for the names.")

    def total(self, metric: str, null: str | None = None) -> float | None:
        """The checkpoint's figure of a metric, or of one of its controls: a sum, a mean, or a norm of norms.

        Args:
            metric: A key of `METRICS`.
            null: The name of a control; None takes the measured values.

        Returns:
            None when no matrix has a value.
        """
        values = []
        for matrix in self.matrices:
            measure = matrix.measure(metric, self.primary_side)
            value = None if measure is None else measure.value if null is None else _mean_of(measure, null)
            if value is not None:
                values.append(value)
        if not values:
            return None
        if METRICS[metric].total == "sum":
            return math.fsum(values)
        if METRICS[metric].total == "root sum of squares":
            return math.sqrt(math.fsum(value**2 for value in values))
        return math.fsum(values) / len(values)

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON object of `spectra scan`: keys are added, never renamed."""
        return {"format": FORMAT, **asdict(self), "seconds": self.seconds}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "SpectralScan":
        """The record that `to_dict` gave.

        Raises:
            DataError: If the object is no scan.
        """
        if facts.get("format") != FORMAT:
            raise DataError(
                f"The format is {facts.get('format')!r}, not '{FORMAT}'. Make a scan with `spectra scan CKPT --json`."
            )
        own = {key: value for key, value in facts.items() if key not in ("format", "seconds")}
        own["groups"], own["warnings"] = tuple(own["groups"]), tuple(own["warnings"])
        own["skipped"] = tuple(Skipped(**skipped) for skipped in own["skipped"])
        own["coverage"] = Coverage.of(own.get("coverage"))
        own["matrices"] = tuple(_matrix(dict(matrix)) for matrix in own["matrices"])
        return cls(**own)

    def rows(self, kind: Rows = "measures") -> Iterator[dict[str, Any]]:
        """Flat rows.

        Args:
            kind: "measures" (one per matrix, metric and side, with a column per control), "nulls" (one per measure and
                control), "matrices" (a column per metric), "vectors" (leading ones), "grids" (entries), "epsilons"
                (each matrix's count against epsilon) or "positions" (against k).
        """
        yield from {
            "measures": _measure_rows,
            "nulls": _null_rows,
            "matrices": _matrix_rows,
            "vectors": _vector_rows,
            "grids": _grid_rows,
            "epsilons": _epsilon_rows,
            "positions": _position_rows,
        }[kind](self)

    def to_dataframe(self, rows: Rows = "measures") -> "pd.DataFrame":
        """One of the tables of `rows` as a pandas table."""
        import pandas as pd

        return pd.DataFrame(list(self.rows(rows)))

    def _repr_html_(self) -> str:
        """The checkpoint's figures beside their controls, for notebooks; `to_dataframe` has every matrix."""
        nulls = sorted({line.null for matrix in self.matrices for m in matrix.measures for line in m.nulls})
        rows = []
        for metric in METRICS.values():
            value = self.total(metric.key)
            if value is not None:
                controls = (_figure(self.total(metric.key, null)) for null in nulls)
                rows.append((metric.key, metric.total, _figure(value), *controls))
        caption = (
            f"{self.checkpoint} against {self.base}: {len(self.matrices)} matrices "
            f"(k = {self.k}, epsilon = {self.epsilon:g}, {self.side})"
        )
        return html_table(caption, ("metric", "over matrices", "value", *nulls), rows, self.warnings)


def read_scan(path: Path) -> SpectralScan:
    """Read what `spectra scan --json` printed.

    Raises:
        DataError: If the file is no scan.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{path}' is no scan ({error}). Make one with `spectra scan CKPT --json`.") from error
    if not isinstance(facts, dict):
        raise DataError(
            f"'{path}' holds a {type(facts).__name__}, not a scan. Make one with `spectra scan CKPT --json`."
        )
    return SpectralScan.from_dict(facts)


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _mean_of(measure: Measure, null: str) -> float | None:
    return next((line.mean for line in measure.nulls if line.null == null), None)


def _matrix(facts: dict[str, Any]) -> MatrixMeasures:
    facts["shape"] = tuple(facts["shape"])
    for name in ("base_values", "tuned_values", "update_values"):
        facts[name] = tuple(facts[name])
    facts["measures"] = tuple(
        Measure(**{**measure, "nulls": tuple(NullLine(**line) for line in measure["nulls"])})
        for measure in facts["measures"]
    )
    facts["vectors"] = tuple(
        LeadingVector(**{**vector, "verdict": VectorVerdict(**vector["verdict"])}) for vector in facts["vectors"]
    )
    facts["grids"] = tuple(
        Grid(grid["name"], grid["side"], tuple(tuple(row) for row in grid["values"])) for grid in facts["grids"]
    )
    return MatrixMeasures(**facts)


def _place(matrix: MatrixMeasures) -> dict[str, Any]:
    return {"matrix": matrix.name, "layer": matrix.layer, "role": matrix.role, "block": matrix.block}


def _measure_rows(scan: SpectralScan) -> Iterator[dict[str, Any]]:
    nulls = list(dict.fromkeys(line.null for matrix in scan.matrices for m in matrix.measures for line in m.nulls))
    for matrix in scan.matrices:
        for measure in matrix.measures:
            yield {
                **_place(matrix),
                "metric": measure.metric,
                "side": measure.side,
                "value": measure.value,
                "how": measure.how,
                "error": measure.error,
                **{f"null_{null.replace(' ', '_')}": _mean_of(measure, null) for null in nulls},
                "note": measure.note,
            }


def _null_rows(scan: SpectralScan) -> Iterator[dict[str, Any]]:
    for matrix in scan.matrices:
        for measure in matrix.measures:
            for line in measure.nulls:
                facts = {"metric": measure.metric, "side": measure.side, "value": measure.value}
                yield {**_place(matrix), **facts, **asdict(line)}


def _matrix_rows(scan: SpectralScan) -> Iterator[dict[str, Any]]:
    for matrix in scan.matrices:
        row = {**_place(matrix), "d_out": matrix.shape[0], "d_in": matrix.shape[1]}
        row |= {"rank": matrix.rank, "alpha": matrix.alpha, "scaling": matrix.scaling, "method": matrix.method}
        for measure in matrix.measures:
            suffix = f".{measure.side}" if measure.side is not None and scan.side == "both" else ""
            row[f"{measure.metric}{suffix}"] = measure.value
        yield {**row, "seconds": sum(matrix.seconds.values())}


def _vector_rows(scan: SpectralScan) -> Iterator[dict[str, Any]]:
    for matrix in scan.matrices:
        for vector in matrix.vectors:
            facts = asdict(vector)
            yield {**_place(matrix), **facts.pop("verdict"), **facts}


def _grid_rows(scan: SpectralScan) -> Iterator[dict[str, Any]]:
    for matrix in scan.matrices:
        for grid in matrix.grids:
            for i, row in enumerate(grid.values):
                for j, value in enumerate(row):
                    yield {**_place(matrix), "grid": grid.name, "side": grid.side, "i": i, "j": j, "value": value}


def _epsilon_rows(scan: SpectralScan) -> Iterator[dict[str, Any]]:
    """The count is proven; `at_most` is larger where a verdict was not decided at that epsilon."""
    yield from _records(counts_by_epsilon(scan.to_dataframe("vectors"), ["matrix"], EPSILONS))


def _position_rows(scan: SpectralScan) -> Iterator[dict[str, Any]]:
    yield from _records(counts_by_k(scan.to_dataframe("vectors"), ["matrix"]))


def _records(table: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    for row in table.to_dict("records"):
        yield {str(name): value for name, value in row.items()}
