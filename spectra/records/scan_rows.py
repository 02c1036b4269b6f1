"""The flat rows of a scan: the tidy tables behind reports, CSV and Parquet."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from spectra.records.counts import EPSILONS, counts_by_epsilon, counts_by_k
from spectra.records.matrix_scan import MatrixScan
from spectra.records.measures import Measure
from spectra.records.verdicts import Side

if TYPE_CHECKING:
    import pandas as pd

Rows = Literal["measures", "nulls", "matrices", "vectors", "grids", "epsilons", "positions"]
Matrices = Sequence[MatrixScan]


def mean_of(measure: Measure, null: str) -> float | None:
    """The mean of one of the controls of a measure; None where it has no such control."""
    return next((line.mean for line in measure.nulls if line.null == null), None)


def _place(matrix: MatrixScan) -> dict[str, Any]:
    return {"matrix": matrix.name, "layer": matrix.layer, "role": matrix.role, "block": matrix.block}


def _measure_rows(matrices: Matrices, side: Side) -> Iterator[dict[str, Any]]:
    nulls = list(dict.fromkeys(line.null for matrix in matrices for m in matrix.measures for line in m.nulls))
    for matrix in matrices:
        for measure in matrix.measures:
            yield {
                **_place(matrix),
                "metric": measure.metric,
                "side": measure.side,
                "value": measure.value,
                "how": measure.how,
                "error": measure.error,
                **{f"null_{null.replace(' ', '_')}": mean_of(measure, null) for null in nulls},
                "note": measure.note,
            }


def _null_rows(matrices: Matrices, side: Side) -> Iterator[dict[str, Any]]:
    for matrix in matrices:
        for measure in matrix.measures:
            for line in measure.nulls:
                facts = {"metric": measure.metric, "side": measure.side, "value": measure.value}
                yield {**_place(matrix), **facts, **asdict(line)}


def _matrix_rows(matrices: Matrices, side: Side) -> Iterator[dict[str, Any]]:
    for matrix in matrices:
        row = {**_place(matrix), "d_out": matrix.shape[0], "d_in": matrix.shape[1]}
        row |= {"rank": matrix.rank, "alpha": matrix.alpha, "scaling": matrix.scaling, "method": matrix.method}
        for measure in matrix.measures:
            suffix = f".{measure.side}" if measure.side is not None and side == "both" else ""
            row[f"{measure.metric}{suffix}"] = measure.value
        yield {**row, "seconds": sum(matrix.seconds.values())}


def _vector_rows(matrices: Matrices, side: Side) -> Iterator[dict[str, Any]]:
    for matrix in matrices:
        for vector in matrix.vectors:
            yield {**_place(matrix), **vars(vector)}


def _grid_rows(matrices: Matrices, side: Side) -> Iterator[dict[str, Any]]:
    for matrix in matrices:
        for grid in matrix.grids:
            for i, row in enumerate(grid.values):
                for j, value in enumerate(row):
                    yield {**_place(matrix), "grid": grid.name, "side": grid.side, "i": i, "j": j, "value": value}


def _vectors(matrices: Matrices, side: Side) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(list(_vector_rows(matrices, side)))


def _epsilon_rows(matrices: Matrices, side: Side) -> Iterator[dict[str, Any]]:
    """The count is proven; `at_most` is larger where a verdict was not decided at that epsilon."""
    yield from _records(counts_by_epsilon(_vectors(matrices, side), ["matrix"], EPSILONS))


def _position_rows(matrices: Matrices, side: Side) -> Iterator[dict[str, Any]]:
    yield from _records(counts_by_k(_vectors(matrices, side), ["matrix"]))


def _records(table: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    for row in table.to_dict("records"):
        yield {str(name): value for name, value in row.items()}


# One table per kind, from the matrices of a scan and the side that it looked at.
TABLES: Mapping[Rows, Callable[[Matrices, Side], Iterator[dict[str, Any]]]] = {
    "measures": _measure_rows,
    "nulls": _null_rows,
    "matrices": _matrix_rows,
    "vectors": _vector_rows,
    "grids": _grid_rows,
    "epsilons": _epsilon_rows,
    "positions": _position_rows,
}
