"""`spectra intruders`: count the intruder dimensions of checkpoints."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.destinations import FileDestination, WritingCommand
from spectra.cli.gate import Gate, gate_options
from spectra.cli.intruders_output import print_scans
from spectra.cli.options import (
    QUESTION,
    checkpoint_options,
    definition_options,
    engine_options,
    quiet_option,
    selection_options,
    stacked,
)
from spectra.cli.output import Output, output_options
from spectra.cli.scanning import ray_option, scanned, tell_warnings, write_html
from spectra.storage.destinations import REPORT

if TYPE_CHECKING:
    from spectra.records import IntruderScan
    from spectra.records.conditions import Condition

report_options = stacked(
    click.option("--html", type=FileDestination(REPORT), help="Also write an HTML report here."),
    quiet_option,
)


@click.command(
    cls=WritingCommand, epilog="Example:  spectra intruders my-adapter --base roberta-base --html report.html"
)
@click.argument("checkpoints", metavar="CKPT...", nargs=-1, required=True)
@checkpoint_options
@definition_options
@selection_options
@engine_options
@output_options("vector", json_help="Print one JSON object (an array of them for several CKPT).")
@report_options
@gate_options
@ray_option
def command(
    checkpoints: tuple[str, ...],
    base: str | None,
    memory: int | None,
    cache: bool,
    output: Output,
    html: Path | None,
    ray: str | None,
    quiet: bool,
    conditions: "tuple[Condition, ...]",
    junit: Path | None,
    **options: Any,
) -> None:
    """Count the intruder dimensions of fine-tuned checkpoints.

    CKPT is a peft adapter folder or a full checkpoint (folder, file or hub id). An intruder dimension is one of the
    k leading singular vectors of the tuned matrix whose largest |cos| to any singular vector of the pre-trained
    matrix is below epsilon (Shuttleworth et al., arXiv:2410.21228). Several checkpoints of one base share the work.
    """
    from spectra.records import IntruderScan, chosen_groups
    from spectra.scanning.settings import EVERY_MATRIX

    if html is not None and len(checkpoints) != 1:
        raise click.ClickException(
            "--html reports one checkpoint. Put several side by side with `spectra compare --html`."
        )
    question = {name: options.pop(name) for name in QUESTION} | {"memory_bytes": memory}
    question["pictured"] = (EVERY_MATRIX,) if html is not None else ()
    gate = Gate(conditions, junit)
    if gate.needs("control"):
        question["groups"] = chosen_groups("intruders,update,nulls")
    found, interrupted = scanned(checkpoints, base, question, options, cache=cache, ray=ray, quiet=quiet)
    scans = [IntruderScan.of(scan) for scan in found]
    emit(scans, output)
    if html is not None:
        write_html(scans[0], html)
    if interrupted:
        sys.exit(130)
    if conditions:
        from spectra.report import scan_case

        gate.judge(scan_case(scan) for scan in found)


def emit(scans: "list[IntruderScan]", output: Output) -> None:
    """Data to stdout, warnings to stderr."""
    tell_warnings(scans)
    output.emit(
        text=lambda: print_scans(scans),
        whole=lambda: scans[0].to_dict() if len(scans) == 1 else [scan.to_dict() for scan in scans],
        rows=lambda: [{"checkpoint": scan.checkpoint, **row} for scan in scans for row in scan.vector_rows()],
    )
