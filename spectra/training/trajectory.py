"""What a training run passes through: one row per scanned step, and one per step and matrix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spectra.errors import DataError
from spectra.records.matrix_scan import MatrixScan
from spectra.records.totals import totals
from spectra.runs import tidy
from spectra.storage import tables

if TYPE_CHECKING:
    import pandas as pd

PER_MATRIX = ("count", "energy_share", "update_frobenius", "update_relative", "effective_rank")


@dataclass
class Trajectory:
    """The rows of a training run, in the columns of the tables `trajectory` and `trajectory_matrices`.

    Attributes:
        rows: One per scanned step.
        matrices: One per scanned step and matrix.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    matrices: list[dict[str, Any]] = field(default_factory=list)

    def add(self, step: int, spectra: Sequence[MatrixScan], **known: Any) -> dict[str, Any]:
        """Add a scanned step.

        Args:
            step: Optimiser step.
            spectra: One record per matrix, norms included.
            known: Further columns.

        Returns:
            The row of the whole model.
        """
        row = {
            "step": step,
            **totals(spectra),
            "with_intruders": sum(matrix.count > 0 for matrix in spectra),
            **known,
        }
        self.rows.append(row)
        self.matrices += [_matrix_row(step, matrix) for matrix in spectra]
        return row

    def cut_after(self, step: int) -> None:
        """Forget later steps: a training that goes on from a checkpoint passes them again."""
        self.rows = [row for row in self.rows if row["step"] <= step]
        self.matrices = [row for row in self.matrices if row["step"] <= step]

    def to_dataframe(self, rows: Literal["steps", "matrices"] = "steps") -> "pd.DataFrame":
        """The documented table, one row per step or one per step and matrix, the trial left out."""
        if rows == "steps":
            return tidy("trajectory", self.rows).drop(columns="trial")
        return tidy("trajectory_matrices", self.matrices).drop(columns="trial")

    def write(self, path: Path) -> None:
        """Write the steps to a .parquet or .csv file, and the matrices beside it as NAME-matrices."""
        writer = writer_of(path)
        writer(path, self.to_dataframe())
        writer(path.with_stem(f"{path.stem}-matrices"), self.to_dataframe("matrices"))

    def state(self) -> dict[str, Any]:
        """All rows as JSON holds them, compactly: the matrices column by column."""
        columns = ("step", "name", "layer", "role", *PER_MATRIX)
        return {"rows": self.rows, "matrices": {name: [row[name] for row in self.matrices] for name in columns}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Trajectory":
        """The rows that `state` returned."""
        columns = state["matrices"]
        matrices = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return cls([dict(row) for row in state["rows"]], matrices)


def writer_of(path: Path) -> Any:
    """The function that writes a table to a file of this name.

    Raises:
        DataError: If its ending is neither .parquet nor .csv.
    """
    writers = {".parquet": tables.write_parquet, ".csv": tables.write_csv}
    if path.suffix not in writers:
        raise DataError(f"A trajectory cannot be written to '{path}'. Choose a name that ends in .parquet or .csv.")
    return writers[path.suffix]


def _matrix_row(step: int, matrix: MatrixScan) -> dict[str, Any]:
    update = matrix.update
    return {
        "step": step,
        "name": matrix.name,
        "layer": matrix.layer,
        "role": matrix.role,
        "count": matrix.count,
        "energy_share": matrix.energy_share,
        "update_frobenius": update.frobenius if update else None,
        "update_relative": update.relative if update else None,
        "effective_rank": update.effective_rank if update else None,
    }
