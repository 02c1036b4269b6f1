"""`spectra figures`: draw the figures of a run for a paper."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

import spectra
from spectra.cli.destinations import FolderDestination, WritingCommand
from spectra.cli.terminal import echo

if TYPE_CHECKING:
    from spectra.figures.export import Kind


@click.command(cls=WritingCommand, epilog="Example:  spectra figures runs/demo -o figures --format pdf")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "-o",
    "--out",
    required=True,
    type=FolderDestination("figures", "among others"),
    help="Folder that receives the figures.",
)
@click.option(
    "--format",
    "kind",
    type=click.Choice(["pdf", "svg", "png"]),
    default="pdf",
    show_default=True,
    help="Format of the files.",
)
@click.option("--force", is_flag=True, help="Replace figures that exist.")
def command(run: Path, out: Path, kind: "Kind", force: bool) -> None:
    """Draw every figure that RUN has the data for, one file each, and print their paths."""
    for path in spectra.write_figures(run, out, kind=kind, force=force):
        echo(path)
