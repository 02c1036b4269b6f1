"""The record of one scanned checkpoint: all of its verdicts and measured metrics.

`Scan.to_dict` is the JSON of `spectra scan`: keys are added, never renamed.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from spectra.errors import DataError
from spectra.records.catalogue import METRICS
from spectra.records.coverage import Coverage
from spectra.records.matrix_scan import MatrixScan, record
from spectra.records.scan_rows import TABLES, Rows, mean_of
from spectra.records.totals import base_frobenius, ratio_of_norms
from spectra.records.verdicts import OneSide, Side, Skipped, html_table

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "spectra-scan-1"


@dataclass(frozen=True)
class Scan:
    """All verdicts and measured metrics of one checkpoint against its base.

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
        streamed: Of distant files: how many, how many of their tensors and bytes were to be read once, the bytes and
            requests that this call made (those of all checkpoints together); None where all lay on this machine.
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
    streamed: Mapping[str, int] | None = None

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
            value = None if measure is None else measure.value if null is None else mean_of(measure, null)
            if value is not None:
                values.append(value)
                sizes.append(base_frobenius(matrix))
        if not values:
            return None
        if METRICS[metric].total == "ratio of norms":
            return ratio_of_norms(values, sizes)
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
        yield from TABLES[kind](self.matrices, self.side)

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


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
