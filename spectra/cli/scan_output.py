"""How a spectral scan reads on a terminal, and the folder of its tables."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from spectra.cli.terminal import console, echo, table_width

if TYPE_CHECKING:
    from rich.console import Console

    from spectra.records import Metric, Scan

# Headings of the controls: as short as the columns they stand over.
NULLS = {
    "storage rounding": "rounding",
    "dense gaussian": "noise",
    "random low rank": "random r",
}
DIRECTION = "random direction"
CHANGED = {"intruders.count": "count", "update.relative": "relative", "update.effective_rank": "eff. rank"}
SHOWN = 8
MARKS = {"estimate": "~", "at most": "<=", "at least": ">="}


def print_scan(scan: "Scan") -> None:
    """The checkpoint's figures beside their controls, then the matrices that changed most."""
    from rich.markup import escape

    shown = console(width=table_width())
    shown.print(f"[bold]{escape(scan.checkpoint)}[/bold] against {escape(scan.base)}")
    _print_figures(scan, shown)
    _print_matrices(scan, shown)
    echo(_closing(scan))


def _print_figures(scan: "Scan", shown: "Console") -> None:
    from rich.table import Table

    from spectra.records import METRICS

    nulls = [
        null for null in NULLS if any(line.null == null for m in scan.matrices for x in m.measures for line in x.nulls)
    ]
    table = Table(box=None, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for heading in ("value", *(NULLS[null] for null in nulls)):
        table.add_column(heading, justify="right", no_wrap=True)
    group = ""
    for metric in METRICS.values():
        cells = _cells(scan, metric, nulls)
        if cells is None:
            continue
        if group and metric.group != group:
            table.add_row()
        group = metric.group
        table.add_row(*cells)
    shown.print(table)


def _cells(scan: "Scan", metric: "Metric", nulls: list[str]) -> list[str] | None:
    """One row, or None for a metric that no matrix has."""
    value = scan.total(metric.key)
    if value is None:
        return None
    found = [m.measure(metric.key, scan.primary_side) for m in scan.matrices]
    marks = {MARKS[measure.how] for measure in found if measure is not None and measure.how in MARKS}
    mark = next(iter(marks)) if len(marks) == 1 else "~" if marks else ""
    controls = [_figure(scan.total(metric.key, null)) for null in nulls]
    name = metric.key if metric.total != "sum" else f"{metric.key} (sum)"
    return [name, mark + _figure(value), *controls]


def _print_matrices(scan: "Scan", shown: "Console") -> None:
    """The matrices with the most intruders, then with the largest updates."""
    from rich.markup import escape
    from rich.table import Table

    keys = [key for key in CHANGED if _has(scan, key)]
    if not keys or not scan.matrices:
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("matrix", overflow="fold", ratio=1)
    for heading in ("shape", *(CHANGED[key] for key in keys)):
        table.add_column(heading, justify="right", no_wrap=True)
    order = sorted(scan.matrices, key=lambda m: tuple(-(m.value(key) or 0.0) for key in keys))
    for matrix in order[:SHOWN]:
        figures = [_figure(matrix.value(key, scan.primary_side)) for key in keys]
        table.add_row(escape(matrix.name), f"{matrix.shape[0]}x{matrix.shape[1]}", *figures)
    shown.print()
    shown.print(table)
    if len(order) > SHOWN:
        shown.print(f"... and {len(order) - SHOWN} more matrices (--csv lists all)")


def _closing(scan: "Scan") -> str:
    """How to read the figures, in one paragraph."""
    seconds = ", ".join(f"{group} {time:.1f} s" for group, time in scan.seconds.items())
    text = (
        f"{len(scan.matrices)} matrices, {scan.primary_side} vectors, k = {scan.k}, epsilon = {scan.epsilon:g}; means "
        f"over matrices, norms as root sums of squares; seed {scan.seed}. Time: {seconds}."
    )
    if (chance := scan.total("intruders.least_cosine", DIRECTION)) is not None:
        text += f" A random direction would show max|cos| of about {chance:.2f}."
    if scan.coverage is not None:
        text += f" {scan.coverage.sentence} (`spectra inspect` says why the rest is not.)"
    elif scan.skipped:
        text += f" {len(scan.skipped)} matrices were not compared (`spectra inspect` says why)."
    return text


def write_folder(scan: "Scan", out: Path, *, force: bool) -> None:
    """`scan.json`, from which the record can be read again, and each of its tables as Parquet."""
    from spectra.records.scan import Rows
    from spectra.storage.atomic import write_json
    from spectra.storage.destinations import whole_folder
    from spectra.storage.tables import write_parquet

    with whole_folder(out, "scan", force=force) as folder:
        write_json(folder / "scan.json", scan.to_dict())
        for kind in _kinds(scan, get_args(Rows)):
            write_parquet(folder / f"{kind}.parquet", scan.to_dataframe(kind))  # type: ignore[arg-type]
    echo(f"Tables: {out}", err=True)


def _kinds(scan: "Scan", kinds: tuple[str, ...]) -> Iterator[str]:
    """The tables that have rows."""
    for kind in kinds:
        if any(True for _ in scan.rows(kind)):  # type: ignore[arg-type]
            yield kind


def _has(scan: "Scan", key: str) -> bool:
    return any(matrix.value(key) is not None for matrix in scan.matrices)


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"
