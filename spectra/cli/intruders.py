"""`spectra intruders`: count the intruder dimensions of checkpoints."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.destinations import FileDestination, WritingCommand
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
from spectra.cli.progress import parts_progress
from spectra.cli.terminal import echo, warn
from spectra.storage.destinations import REPORT

if TYPE_CHECKING:
    from spectra.cluster import SpreadScan
    from spectra.records.intruder_scan import IntruderScan
    from spectra.scanning.scan import PartialScan

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
@click.option("--ray", metavar="auto|ADDRESS", help="Spread the matrices over a Ray cluster; ADDRESS is HOST:PORT.")
def command(
    checkpoints: tuple[str, ...],
    base: str | None,
    memory: int | None,
    cache: bool,
    output: Output,
    html: Path | None,
    ray: str | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Count the intruder dimensions of fine-tuned checkpoints.

    CKPT is a peft adapter folder or a full checkpoint (folder, file or hub id). An intruder dimension is one of the
    k leading singular vectors of the tuned matrix whose largest |cos| to any singular vector of the pre-trained
    matrix is below epsilon (Shuttleworth et al., arXiv:2410.21228). Several checkpoints of one base share the work.
    """
    question = {name: options.pop(name) for name in QUESTION}
    partial = prepared(checkpoints, base, {**question, "memory_bytes": memory}, options, cache=cache)
    interrupted = run(partial, quiet=quiet, spread=spread(ray, checkpoints, base, options, cache=cache))
    scans = partial.scans()
    emit(scans, output)
    if html is not None:
        write_html(partial, scans, html)
    if interrupted:
        sys.exit(130)


def prepared(
    checkpoints: tuple[str, ...],
    base: str | None,
    question: dict[str, Any],
    opening: dict[str, Any],
    *,
    cache: bool,
) -> "PartialScan":
    """Open every checkpoint beside its base and lay out the scan."""
    from spectra.engine.cache import FactorCache
    from spectra.scanning.journal import Journal
    from spectra.scanning.scan import PartialScan
    from spectra.scanning.settings import ScanSettings
    from spectra.weights import open_pair

    settings = ScanSettings(**question)
    pairs = [open_pair(base, checkpoint, **opening) for checkpoint in checkpoints]
    return PartialScan(pairs, settings, FactorCache() if cache else None, Journal(pairs, settings) if cache else None)


def spread(
    ray: str | None, checkpoints: tuple[str, ...], base: str | None, opening: dict[str, Any], *, cache: bool
) -> "SpreadScan | None":
    """Who scans, if not this process."""
    if ray is None:
        return None
    from spectra.cluster import SpreadScan

    return SpreadScan(ray, checkpoints, base, opening, cache=cache)


def run(partial: "PartialScan", *, quiet: bool, spread: "SpreadScan | None" = None) -> bool:
    """Scan with progress. True when Ctrl-C ended it: what is done stays usable, and a rerun continues."""
    try:
        with parts_progress("scanning", quiet=quiet) as progress:
            partial.run(progress, spread.of(partial.settings) if spread else None)
    except KeyboardInterrupt:
        again = " Run the same command to continue." if partial.journal is not None else ""
        echo(f"Interrupted after {len(partial.found)} matrices.{again}", err=True)
        return True
    return False


def emit(scans: list["IntruderScan"], output: Output) -> None:
    """Data to stdout, warnings to stderr."""
    for scan in scans:
        warn(scan.warnings)
    output.emit(
        text=lambda: print_scans(scans),
        whole=lambda: scans[0].to_dict() if len(scans) == 1 else [scan.to_dict() for scan in scans],
        rows=lambda: [{"checkpoint": scan.checkpoint, **row} for scan in scans for row in scan.vector_rows()],
    )


def write_html(partial: "PartialScan", scans: list["IntruderScan"], path: Path) -> None:
    """The report of one scan; several checkpoints are compared with `spectra report A.json B.json`."""
    from spectra.records.provenance import command_line
    from spectra.report import write_scan_report
    from spectra.scanning.details import matrix_details

    if len(scans) != 1:
        raise click.ClickException(
            "--html reports one checkpoint. Scan them one by one, or compare their --json files."
        )
    details = matrix_details(partial.pairs[0].matrices, partial.settings)
    echo(f"Report: {write_scan_report(scans[0], path, details=details, command=command_line())}", err=True)
