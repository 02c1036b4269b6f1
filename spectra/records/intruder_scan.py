"""A scan as `spectra intruders` shows it: counts, verdicts and norms.

`IntruderScan.to_dict` is the JSON of that command: keys are added, never renamed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, overload

from spectra.records.catalogue import VERDICTS_ALONE
from spectra.records.coverage import Coverage
from spectra.records.matrix_scan import LeadingVector, MatrixScan, record
from spectra.records.measures import Measure, UpdateNorms
from spectra.records.scan import Scan
from spectra.records.scan_rows import Rows
from spectra.records.verdicts import Skipped, html_table

if TYPE_CHECKING:
    import pandas as pd

SHOWN_IN_NOTEBOOKS = 10


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
                    "reads": None if matrix.reads is None else dict(matrix.reads),
                    "update": asdict(matrix.update) if matrix.update else None,
                    "base_frobenius": matrix.base_frobenius,
                    "vectors": [vars(vector.verdict) for vector in matrix.vectors],
                }
                for matrix in self.matrices
            ],
            "skipped": [asdict(skipped) for skipped in self.skipped],
            "warnings": list(self.warnings),
            "streamed": None if self.streamed is None else dict(self.streamed),
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
            streamed=facts.get("streamed"),
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


@dataclass(frozen=True)
class IntruderScans(Sequence[IntruderScan]):
    """Several checkpoints of one base, in the order given.

    Attributes:
        scans: One scan per checkpoint.
    """

    scans: tuple[IntruderScan, ...]

    def __len__(self) -> int:
        return len(self.scans)

    @overload
    def __getitem__(self, index: int) -> IntruderScan: ...

    @overload
    def __getitem__(self, index: slice) -> "IntruderScans": ...

    def __getitem__(self, index: int | slice) -> "IntruderScan | IntruderScans":
        return IntruderScans(self.scans[index]) if isinstance(index, slice) else self.scans[index]

    def to_dict(self) -> list[dict[str, Any]]:
        """The JSON array of `spectra intruders` for several checkpoints."""
        return [scan.to_dict() for scan in self.scans]

    def rows(self, kind: Rows = "matrices") -> Iterator[dict[str, Any]]:
        """Flat rows of every scan, with its checkpoint."""
        for scan in self.scans:
            for row in scan.rows(kind):
                yield {"checkpoint": scan.checkpoint, **row}

    def to_dataframe(self, rows: Rows = "matrices") -> "pd.DataFrame":
        """The scans as one pandas table, with a column that names the checkpoint."""
        import pandas as pd

        return pd.DataFrame(list(self.rows(rows)))

    def _repr_html_(self) -> str:
        """One table per checkpoint, for notebooks."""
        return "".join(scan._repr_html_() for scan in self.scans)


def _verdicts_from(entry: dict[str, Any]) -> MatrixScan:
    """One matrix in the JSON of `spectra intruders`."""
    norms = record(UpdateNorms, entry["update"]) if entry.get("update") else None
    measures: tuple[Measure, ...] = norms.measures() if norms is not None else ()
    own = {"shape": tuple(entry["shape"]), "measures": measures, "seconds": {"verdicts": entry["seconds"]}}
    return record(MatrixScan, {**entry, **own, "vectors": tuple(record(LeadingVector, v) for v in entry["vectors"])})
