"""`spectra scan`: every metric of a checkpoint, beside what chance would give."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.destinations import FileDestination, FolderDestination, WritingCommand
from spectra.cli.options import (
    checkpoint_options,
    definition_options,
    engine_options,
    quiet_option,
    ray_option,
    selected,
    selection_options,
    stacked,
    stream_option,
    trust_option,
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import notices, parts_progress, until_interrupted
from spectra.cli.tables import folding_table, print_folding
from spectra.cli.terminal import console, echo, table_width, warn
from spectra.records.coverage import what_was_compared
from spectra.storage.destinations import REPORT

if TYPE_CHECKING:
    from rich.console import Console

    from spectra import Scan, Selection
    from spectra.records import Metric

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

measure_options = stacked(
    click.option(
        "--metrics",
        default="intruders,update,alignment,base,nulls",
        show_default=True,
        help="Groups of metrics, with commas between: these, tails (slow), or all; ranks is another name for update.",
    ),
    click.option(
        "--seed", type=int, default=0, show_default=True, help="Seed of every simulated control and estimate."
    ),
    click.option(
        "--draws", type=click.IntRange(min=1), default=1, show_default=True, help="Simulations per random control."
    ),
    click.option(
        "--exact",
        is_flag=True,
        help="Compute all singular values of large matrices instead of estimating sums over them.",
    ),
)


@click.command(
    cls=WritingCommand, epilog="Example:  spectra scan my-adapter --base roberta-base --metrics intruders,ranks,nulls"
)
@click.argument("checkpoint", metavar="CKPT")
@checkpoint_options
@stream_option
@measure_options
@definition_options
@selection_options
@engine_options
@output_options("matrix, metric and side")
@click.option(
    "--texts",
    metavar="TASK",
    help="Also measure the drift of every matrix's outputs on these texts: an asset task or a file.",
)
@click.option(
    "--text-limit", type=click.IntRange(min=1), default=256, show_default=True, help="Largest number of texts."
)
@click.option("-o", "--out", type=FolderDestination("scan", "whole"), help="Also write every table into this folder.")
@click.option("--html", type=FileDestination(REPORT), help="Also write an HTML report to this file.")
@ray_option
@trust_option
@quiet_option
@selected
def command(
    checkpoint: str,
    base: str | None,
    cache: bool,
    output: Output,
    out: Path | None,
    html: Path | None,
    quiet: bool,
    selection: "Selection",
    **question: Any,
) -> None:
    """Measure what fine-tuning did to the spectra of a checkpoint.

    CKPT is a peft adapter folder or a full checkpoint (folder, file or hub id). One pass over its matrices gives
    intruder dimensions, norms and ranks of the update, alignment with the base, and the base's own spectrum, each
    number beside controls: the rounding of storage, dense noise and a random update of the same norm and rank.
    """
    from spectra.records import chosen_groups

    if html is not None and "intruders" not in chosen_groups(question["metrics"]):
        raise click.UsageError("--html shows the intruder verdicts of each matrix. Add intruders to --metrics.")
    kept = spectra.FactorCache() if cache else None
    with parts_progress("scanning", quiet=quiet) as progress:
        scan, interrupted = until_interrupted(
            lambda: spectra.scan(
                checkpoint, base, selection=selection, out=out, force=output.force,
                pictures=html is not None, cache=kept, progress=progress, notice=notices(quiet=quiet), **question,
            ),
            lambda done: f"Interrupted after {len(done.matrices)} matrices.",
        )  # fmt: skip
    warn(scan.warnings)
    output.emit(text=lambda: print_scan(scan), whole=scan.to_dict, rows=lambda: scan.rows("measures"))
    if out is not None:
        echo(f"Tables: {out}", err=True)
    if html is not None:
        from spectra.records.provenance import command_line

        written = spectra.write_report(scan, html, force=True, command=command_line())
        echo(f"Report: {written}", err=True)
    if interrupted:
        sys.exit(130)


def print_scan(scan: "Scan") -> None:
    """The checkpoint's figures beside their controls, then the matrices that changed most."""
    from rich.markup import escape

    shown = console(width=table_width())
    shown.print(f"[bold]{escape(scan.checkpoint)}[/bold] against {escape(scan.base)}")
    _print_figures(scan, shown)
    _print_matrices(scan)
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


def _print_matrices(scan: "Scan") -> None:
    """The matrices with the most intruders, then with the largest updates."""
    from rich.markup import escape

    keys = [key for key in CHANGED if _has(scan, key)]
    if not keys or not scan.matrices:
        return
    table = folding_table("matrix", ("shape", *(CHANGED[key] for key in keys)))
    order = sorted(scan.matrices, key=lambda m: tuple(-(m.value(key) or 0.0) for key in keys))
    for matrix in order[:SHOWN]:
        figures = [_figure(matrix.value(key, scan.primary_side)) for key in keys]
        table.add_row(escape(matrix.name), f"{matrix.shape[0]}x{matrix.shape[1]}", *figures)
    echo()
    print_folding(table, more=len(order) - SHOWN, what="matrices (--csv lists all)")


def _closing(scan: "Scan") -> str:
    """How to read the figures, in one paragraph."""
    seconds = ", ".join(f"{group} {time:.1f} s" for group, time in scan.seconds.items())
    text = (
        f"{len(scan.matrices)} matrices, {scan.primary_side} vectors, k = {scan.k}, epsilon = {scan.epsilon:g}; means "
        f"over matrices, norms as root sums of squares; seed {scan.seed}. Time: {seconds}."
    )
    if (chance := scan.total("intruders.least_cosine", DIRECTION)) is not None:
        text += f" A random direction would show max|cos| of about {chance:.2f}, on average over matrices."
    return f"{text} {what_was_compared(scan.coverage, len(scan.skipped))}".rstrip()


def _has(scan: "Scan", key: str) -> bool:
    return any(matrix.value(key) is not None for matrix in scan.matrices)


def _figure(value: float | None) -> str:
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return str(int(value))
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.1f}"
