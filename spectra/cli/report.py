"""`spectra report`: write the HTML report of a run or a scan, or of several side by side."""

from pathlib import Path

import click

import spectra
from spectra.cli.destinations import FileDestination, WritingCommand
from spectra.cli.terminal import echo
from spectra.storage.destinations import REPORT


@click.command(cls=WritingCommand, epilog="Example:  spectra report runs/demo -o demo.html")
@click.argument("sources", nargs=-1, required=True, metavar="RUN...", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--out", type=FileDestination(REPORT), help="File to write the report to.")
@click.option("--force", is_flag=True, help="Replace OUT if it exists; a run's own report.html needs no --force.")
def command(sources: tuple[Path, ...], out: Path | None, force: bool) -> None:
    """Write one HTML file that opens offline.

    RUN is a run folder of `spectra sweep`, a folder of `spectra intervene` or the JSON of `spectra intruders`. The
    report of one folder is its report.html unless -o says otherwise; several runs or scans are compared in one report.
    Interventions are shown with the run that is named beside them, and with the run whose folder holds them.
    """
    echo(spectra.write_report(sources, out, force=force))
