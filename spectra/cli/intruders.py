"""`spectra intruders`: count the intruder dimensions of checkpoints."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.destinations import FileDestination, WritingCommand
from spectra.cli.gate import Gate, gate_options
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
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import notices, parts_progress, until_interrupted
from spectra.cli.tables import folding_table, print_folding
from spectra.cli.terminal import console, echo, table_width, warn
from spectra.records.coverage import what_was_compared
from spectra.storage.destinations import REPORT

if TYPE_CHECKING:
    from spectra import IntruderScan, IntruderScans, Selection
    from spectra.records import MatrixScan
    from spectra.records.conditions import Condition

SHOWN = 20

report_options = stacked(
    click.option("--html", type=FileDestination(REPORT), help="Also write an HTML report to this file."),
    quiet_option,
)


@click.command(
    cls=WritingCommand, epilog="Example:  spectra intruders my-adapter --base roberta-base --html report.html"
)
@click.argument("checkpoints", metavar="CKPT...", nargs=-1, required=True)
@checkpoint_options
@stream_option
@definition_options
@selection_options
@engine_options
@output_options("vector", json_help="Print one JSON object (an array of them for several CKPT).")
@report_options
@gate_options
@ray_option
@selected
def command(
    checkpoints: tuple[str, ...],
    base: str | None,
    cache: bool,
    output: Output,
    html: Path | None,
    quiet: bool,
    conditions: "tuple[Condition, ...]",
    junit: Path | None,
    selection: "Selection",
    **question: Any,
) -> None:
    """Count the intruder dimensions of fine-tuned checkpoints.

    CKPT is a peft adapter folder or a full checkpoint (folder, file or hub id). An intruder dimension is one of the
    k leading singular vectors of the tuned matrix whose largest |cos| to any singular vector of the pre-trained
    matrix is below epsilon (Shuttleworth et al., arXiv:2410.21228). Several checkpoints of one base share the work.
    """
    if html is not None and len(checkpoints) != 1:
        raise click.ClickException(
            "--html reports one checkpoint. Put several side by side with `spectra compare --html`."
        )
    gate = Gate(conditions, junit)
    kept = spectra.FactorCache() if cache else None
    with parts_progress("scanning", quiet=quiet) as progress:
        scans, interrupted = until_interrupted(
            lambda: spectra.intruders(
                checkpoints, base, selection=selection, pictures=html is not None,
                controls=gate.needs("control"), cache=kept, progress=progress, notice=notices(quiet=quiet), **question,
            ),
            lambda done: f"Interrupted after {sum(len(scan.matrices) for scan in done)} matrices.",
        )  # fmt: skip
    warn(warning for scan in scans for warning in scan.warnings)
    output.emit(
        text=lambda: print_scans(scans),
        whole=lambda: scans[0].to_dict() if len(scans) == 1 else scans.to_dict(),
        rows=lambda: scans.rows("vectors"),
    )
    if html is not None:
        from spectra.records.provenance import command_line

        written = spectra.write_report(scans[0], html, force=True, command=command_line())
        echo(f"Report: {written}", err=True)
    if interrupted:
        sys.exit(130)
    if conditions:
        from spectra.report import scan_case

        gate.judge(scan_case(scan) for scan in scans)


def print_scans(scans: "IntruderScans") -> None:
    """One scan after the other."""
    for scan in scans:
        print_scan(scan)


def print_scan(scan: "IntruderScan") -> None:
    """The matrices that hold intruders, most first, and the total in words."""
    console(width=table_width()).print(f"[bold]{_plain(scan.checkpoint)}[/bold] against {_plain(scan.base)}")
    holding = sorted((m for m in scan.matrices if m.count), key=lambda m: (-m.count, -m.energy_share))
    if holding:
        table = folding_table("matrix", ("shape", "count", "energy", "min |cos|"))
        for matrix in holding[:SHOWN]:
            table.add_row(*_cells(matrix))
        print_folding(table, more=len(holding) - SHOWN, what="matrices with intruders (--csv lists all)")
    echo(sentence(scan))


def sentence(scan: "IntruderScan") -> str:
    """The finding in one sentence, with the line that chance would give."""
    from spectra.records.counts import random_direction_cosine

    slots = sum(len(m.side_vectors(m.primary_side)) for m in scan.matrices)
    holding = sum(m.count > 0 for m in scan.matrices)
    noun = "intruder dimension" if scan.count == 1 else "intruder dimensions"
    text = (
        f"{scan.count} {noun} among {slots} leading vectors of {len(scan.matrices)} matrices"
        f" ({holding} of them hold any; k = {scan.k}, epsilon = {scan.epsilon:g}, {scan.side})."
    )
    if scan.matrices:
        chance = max(random_direction_cosine(m.shape[0], min(m.shape)) for m in scan.matrices)
        text += f" A random direction would show max|cos| of about {chance:.2f} or less."
    return f"{text} {what_was_compared(scan.coverage, len(scan.skipped))}".rstrip()


def _cells(matrix: "MatrixScan") -> tuple[str, ...]:
    vectors = matrix.side_vectors(matrix.primary_side)
    return (
        _plain(matrix.name),
        f"{matrix.shape[0]}x{matrix.shape[1]}",
        str(matrix.count),
        f"{100 * matrix.energy_share:.1f} %",
        f"{min(vector.max_cosine for vector in vectors):.2f}",
    )


def _plain(text: str) -> str:
    """A name from outside, shown as text and not as markup."""
    from rich.markup import escape

    return escape(text)
