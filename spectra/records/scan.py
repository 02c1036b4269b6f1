"""The record of one scanned checkpoint and its two faces: every measure, or the intruder verdicts alone.

`Scan.to_dict` is the JSON of `spectra scan`, `IntruderScan.to_dict` that of `spectra intruders`: keys are added, never
renamed.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spectra.errors import DataError
from spectra.records.catalogue import METRICS, VERDICTS_ALONE
from spectra.records.counts import EPSILONS, counts_by_epsilon, counts_by_k
from spectra.records.coverage import Coverage
from spectra.records.matrix_scan import LeadingVector, MatrixScan, record
from spectra.records.measures import Measure, UpdateNorms
from spectra.records.verdicts import OneSide, Side, Skipped, html_table

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "spectra-scan-1"
Rows = Literal["measures", "nulls", "matrices", "vectors", "grids", "epsilons", "positions"]
SHOWN_IN_NOTEBOOKS = 10


@dataclass(frozen=True)
class Scan:
    """All verdicts and measures of one checkpoint against its base.

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
        method: The method asked for ("auto" may use several; each matrix says which).
        epsilons: Every epsilon that the scan was asked to decide, `epsilon` included.
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
    matrices: tuple[MatrixScan, ...]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    method: str = "auto"
    epsilons: tuple[float, ...] = ()
    kind: str = ""
    coverage: Coverage | None = None

    @property
    def count(self) -> int:
        """Number of intruder dimensions: the sum over matrices, as in the paper."""
        return sum(matrix.count for matrix in self.matrices)

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

    def matrix(self, name: str) -> MatrixScan:
        """The entry of one matrix.

        Raises:
            DataError: If no matrix has this name.
        """
        for matrix in self.matrices:
            if matrix.name == name:
                return matrix
        raise DataError(f"No matrix '{name}' in the scan of '{self.checkpoint}'. Look at scan.matrices for the names.")

    def total(self, metric: str, null: str | None = None) -> float | None:
        """The checkpoint's figure of a metric, or of one of its controls: a sum, a mean, or a norm over all matrices.

        Args:
            metric: A key of `METRICS`.
            null: The name of a control; None takes the measured values.

        Returns:
            None when no matrix has a value.
        """
        values, sizes = [], []
        for matrix in self.matrices:
            measure = matrix.measure(metric, self.primary_side)
            value = None if measure is None else measure.value if null is None else _mean_of(measure, null)
            if value is not None:
                values.append(value)
                sizes.append(_base_frobenius(matrix))
        if not values:
            return None
        if METRICS[metric].total == "ratio of norms":
            return _ratio_of_norms(values, sizes)
        if METRICS[metric].total == "sum":
            return math.fsum(values)
        if METRICS[metric].total == "root sum of squares":
            return math.sqrt(math.fsum(value**2 for value in values))
        return math.fsum(values) / len(values)

    def matrix_rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per matrix, of its verdicts and norms: the tidy table behind the reports."""
        for matrix in self.matrices:
            update = asdict(matrix.update) if matrix.update else {}
            yield {
                "name": matrix.name,
                "layer": matrix.layer,
                "role": matrix.role,
                "block": matrix.block,
                "d_out": matrix.shape[0],
                "d_in": matrix.shape[1],
                "count": matrix.count,
                "energy_share": matrix.energy_share,
                "ill_conditioned": sum(vector.ill_conditioned for vector in matrix.vectors),
                "method": matrix.method,
                "seconds": sum(matrix.seconds.values()),
                **{f"update_{key}": value for key, value in update.items()},
            }

    def vector_rows(self) -> Iterator[dict[str, Any]]:
        """One flat row per matrix and vector, of the verdict alone."""
        for matrix in self.matrices:
            for vector in matrix.vectors:
                yield {"name": matrix.name, "layer": matrix.layer, "role": matrix.role, **vars(vector.verdict)}

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON object of `spectra scan`: keys are added, never renamed."""
        own = {**vars(self), "versions": dict(self.versions), "skipped": [asdict(skipped) for skipped in self.skipped]}
        own["matrices"] = [matrix.to_dict() for matrix in self.matrices]
        own["coverage"] = self.coverage.to_dict() if self.coverage else None
        return {"format": FORMAT, **own, "seconds": self.seconds}

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "Scan":
        """The record that `to_dict` gave; keys that a later version added are left out.

        Raises:
            DataError: If the object is no scan.
        """
        if facts.get("format") != FORMAT:
            raise DataError(
                f"The format is {facts.get('format')!r}, not '{FORMAT}'. Make a scan with `spectra scan CKPT --json`."
            )
        own = dict(facts)
        for name in ("groups", "warnings", "epsilons"):
            own[name] = tuple(own.get(name, ()))
        own["coverage"] = Coverage.of(own.get("coverage"))
        own["skipped"] = tuple(record(Skipped, skipped) for skipped in own["skipped"])
        own["matrices"] = tuple(MatrixScan.from_dict(matrix) for matrix in own["matrices"])
        return record(Scan, own)

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


class IntruderScan(Scan):
    """A scan as `spectra intruders` shows it: counts, verdicts and norms."""

    @classmethod
    def of(cls, scan: Scan) -> "IntruderScan":
        """The same scan, shown by its verdicts."""
        return cls(**vars(scan))

    def to_dict(self) -> dict[str, Any]:
        """The stable JSON object of `spectra intruders`: keys are added, never renamed."""
        return {
            "checkpoint": self.checkpoint,
            "base": self.base,
            "kind": self.kind,
            "coverage": self.coverage.to_dict() if self.coverage else None,
            "k": self.k,
            "epsilon": self.epsilon,
            "side": self.side,
            "method": self.method,
            "count": self.count,
            "counts_by_epsilon": [
                {"epsilon": epsilon, "count": sum(m.count_at(epsilon, m.primary_side) for m in self.matrices)}
                for epsilon in self.epsilons
            ],
            "matrices": [
                {
                    "name": matrix.name,
                    "shape": list(matrix.shape),
                    "count": matrix.count,
                    "layer": matrix.layer,
                    "role": matrix.role,
                    "block": matrix.block,
                    "method": matrix.method,
                    "rank": matrix.rank,
                    "alpha": matrix.alpha,
                    "energy_share": matrix.energy_share,
                    "seconds": sum(matrix.seconds.values()),
                    "update": asdict(matrix.update) if matrix.update else None,
                    "base_frobenius": matrix.base_frobenius,
                    "vectors": [vars(vector.verdict) for vector in matrix.vectors],
                }
                for matrix in self.matrices
            ],
            "skipped": [asdict(skipped) for skipped in self.skipped],
            "warnings": list(self.warnings),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> "IntruderScan":
        """The scan that `to_dict` gave; keys that a later version added are left out."""
        scan = {key: facts[key] for key in ("checkpoint", "base", "k", "epsilon", "side", "method", "versions")}
        return cls(
            **scan,
            groups=VERDICTS_ALONE,
            seed=0,
            matrices=tuple(_verdicts_from(dict(matrix)) for matrix in facts["matrices"]),
            skipped=tuple(record(Skipped, skipped) for skipped in facts["skipped"]),
            warnings=tuple(facts.get("warnings", ())),
            epsilons=tuple(entry["epsilon"] for entry in facts.get("counts_by_epsilon", ())),
            kind=facts.get("kind", ""),
            coverage=Coverage.of(facts.get("coverage")),
        )

    def rows(self, kind: Rows = "matrices") -> Iterator[dict[str, Any]]:
        """Flat rows: of "matrices" and of "vectors" the verdicts and norms; of another kind as every scan has them."""
        own = {"matrices": self.matrix_rows, "vectors": self.vector_rows}
        yield from own[kind]() if kind in own else super().rows(kind)

    def to_dataframe(self, rows: Rows = "matrices") -> "pd.DataFrame":
        """The scan as a pandas table, one row per matrix or one per vector."""
        return super().to_dataframe(rows)

    def _repr_html_(self) -> str:
        """The matrices with the most intruders, for notebooks; `to_dataframe` has all."""
        slots = sum(len(matrix.side_vectors(matrix.primary_side)) for matrix in self.matrices)
        caption = (
            f"{self.checkpoint} against {self.base}: {self.count} intruder dimensions among {slots} leading vectors of "
            f"{len(self.matrices)} matrices (k = {self.k}, epsilon = {self.epsilon:g}, {self.side})"
        )
        order = sorted(self.matrices, key=lambda matrix: (-matrix.count, -matrix.energy_share))
        rows = [
            (
                matrix.name,
                f"{matrix.shape[0]}x{matrix.shape[1]}",
                str(matrix.count),
                f"{100 * matrix.energy_share:.1f} %",
                "–" if matrix.update is None or matrix.update.relative is None else f"{matrix.update.relative:.2e}",
            )
            for matrix in order[:SHOWN_IN_NOTEBOOKS]
        ]
        notes = list(self.warnings)
        if len(order) > len(rows):
            notes.insert(0, f"{len(order) - len(rows)} more matrices: see to_dataframe().")
        if self.skipped:
            notes.insert(0, f"{len(self.skipped)} not compared: see skipped.")
        headings = ("matrix", "shape", "count", "energy share", "relative norm of the update")
        return html_table(caption, headings, rows, notes)


def totals(matrices: Sequence[MatrixScan]) -> dict[str, Any]:
    """A whole checkpoint in the columns that tables of trials and of training steps share.

    Counts and squared norms are summed over matrices, the energy share and the effective rank averaged:

        update_frobenius = sqrt(sum ||delta_W||_F^2)        update_relative = update_frobenius / sqrt(sum ||W0||_F^2)

    A norm is absent where one of the matrices lacks its own, or, for the ratio, where ||W0||_F of one is unknown.
    """
    whole: dict[str, Any] = {
        "count": sum(matrix.count for matrix in matrices),
        "matrices": len(matrices),
        "energy_share": sum(matrix.energy_share for matrix in matrices) / max(1, len(matrices)),
    }
    updates = [matrix.update for matrix in matrices if matrix.update is not None]
    if not updates or len(updates) < len(matrices):
        return whole
    frobenius = math.hypot(*(update.frobenius for update in updates))
    whole["update_frobenius"] = frobenius
    whole["effective_rank"] = math.fsum(update.effective_rank for update in updates) / len(updates)
    sizes = [size for matrix in matrices if (size := _base_frobenius(matrix)) is not None]
    if len(sizes) == len(matrices) and any(sizes):
        whole["update_relative"] = frobenius / math.hypot(*sizes)
    return whole


def _ratio_of_norms(ratios: Sequence[float], sizes: Sequence[float | None]) -> float | None:
    """sqrt(sum (ratio_i size_i)^2) / sqrt(sum size_i^2), or None where a size is not known."""
    known = [size for size in sizes if size is not None]
    if len(known) < len(ratios) or not any(known):
        return None
    return math.hypot(*(ratio * size for ratio, size in zip(ratios, known, strict=True))) / math.hypot(*known)


# Far above the record of any model; a larger text would take minutes and gigabytes to be refused.
MAX_BYTES = 200_000_000


def read_scan(path: Path) -> Scan:
    """Read what `spectra scan --json` or `spectra intruders --json` printed.

    Raises:
        DataError: If the file is missing or holds something else.
    """
    try:
        if path.exists() and not path.is_file():
            raise DataError("it is no regular file")
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"it has more than {MAX_BYTES} bytes")
        facts = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(facts, dict):
            raise TypeError(f"it holds a {type(facts).__name__}")
        return Scan.from_dict(facts) if "format" in facts else IntruderScan.from_dict(facts)
    except FileNotFoundError as error:
        raise DataError(f"'{path}' does not exist. Name a run folder or the JSON of a scan.") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DataError) as error:
        raise DataError(
            f"'{path}' is no scan of `spectra intruders CKPT --json` or `spectra scan CKPT --json` "
            f"({type(error).__name__}: {error}). Name a run folder or such a file."
        ) from error


def _verdicts_from(entry: dict[str, Any]) -> MatrixScan:
    """One matrix in the JSON of `spectra intruders`."""
    norms = record(UpdateNorms, entry["update"]) if entry.get("update") else None
    measures: tuple[Measure, ...] = norms.measures() if norms is not None else ()
    own = {"shape": tuple(entry["shape"]), "measures": measures, "seconds": {"verdicts": entry["seconds"]}}
    return record(MatrixScan, {**entry, **own, "vectors": tuple(record(LeadingVector, v) for v in entry["vectors"])})


def _base_frobenius(matrix: MatrixScan) -> float | None:
    """||W0||_F: as it was measured, or what the norms of a tuned matrix imply."""
    known = matrix.base_frobenius if matrix.base_frobenius is not None else matrix.value("base.frobenius")
    if known is not None or matrix.update is None or not matrix.update.relative:
        return known
    return matrix.update.frobenius / matrix.update.relative


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _mean_of(measure: Measure, null: str) -> float | None:
    return next((line.mean for line in measure.nulls if line.null == null), None)


def _place(matrix: MatrixScan) -> dict[str, Any]:
    return {"matrix": matrix.name, "layer": matrix.layer, "role": matrix.role, "block": matrix.block}


def _measure_rows(scan: Scan) -> Iterator[dict[str, Any]]:
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


def _null_rows(scan: Scan) -> Iterator[dict[str, Any]]:
    for matrix in scan.matrices:
        for measure in matrix.measures:
            for line in measure.nulls:
                facts = {"metric": measure.metric, "side": measure.side, "value": measure.value}
                yield {**_place(matrix), **facts, **asdict(line)}


def _matrix_rows(scan: Scan) -> Iterator[dict[str, Any]]:
    for matrix in scan.matrices:
        row = {**_place(matrix), "d_out": matrix.shape[0], "d_in": matrix.shape[1]}
        row |= {"rank": matrix.rank, "alpha": matrix.alpha, "scaling": matrix.scaling, "method": matrix.method}
        for measure in matrix.measures:
            suffix = f".{measure.side}" if measure.side is not None and scan.side == "both" else ""
            row[f"{measure.metric}{suffix}"] = measure.value
        yield {**row, "seconds": sum(matrix.seconds.values())}


def _vector_rows(scan: Scan) -> Iterator[dict[str, Any]]:
    for matrix in scan.matrices:
        for vector in matrix.vectors:
            yield {**_place(matrix), **vars(vector)}


def _grid_rows(scan: Scan) -> Iterator[dict[str, Any]]:
    for matrix in scan.matrices:
        for grid in matrix.grids:
            for i, row in enumerate(grid.values):
                for j, value in enumerate(row):
                    yield {**_place(matrix), "grid": grid.name, "side": grid.side, "i": i, "j": j, "value": value}


def _epsilon_rows(scan: Scan) -> Iterator[dict[str, Any]]:
    """The count is proven; `at_most` is larger where a verdict was not decided at that epsilon."""
    yield from _records(counts_by_epsilon(scan.to_dataframe("vectors"), ["matrix"], EPSILONS))


def _position_rows(scan: Scan) -> Iterator[dict[str, Any]]:
    yield from _records(counts_by_k(scan.to_dataframe("vectors"), ["matrix"]))


def _records(table: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    for row in table.to_dict("records"):
        yield {str(name): value for name, value in row.items()}
