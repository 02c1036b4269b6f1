"""`spectra resize`: a LoRA adapter at other ranks, with what that leaves out."""

from pathlib import Path
from typing import Any

import click

import spectra
from spectra.cli.destinations import FolderDestination, WritingCommand
from spectra.cli.options import selected, source_options, stacked
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress
from spectra.cli.surgery_options import (
    heldout_options,
    measured_tasks,
    rank_options,
    result_options,
    task_option,
    write_report,
)
from spectra.cli.surgery_output import print_reduction
from spectra.cli.terminal import tell, warn

module_options = stacked(
    click.option("--include", metavar="REGEX", help="Resize only modules whose name it matches somewhere."),
    click.option("--exclude", metavar="REGEX", help="Leave modules as they are whose name it matches somewhere."),
)


@click.command(cls=WritingCommand, epilog="Example:  spectra resize my-adapter --energy 0.99 -o smaller")
@click.argument("adapter", metavar="ADAPTER")
@click.option(
    "-o", "--out", required=True, type=FolderDestination("adapter", "whole"), help="Folder that receives the adapter."
)
@source_options
@rank_options
@module_options
@task_option
@heldout_options
@result_options
@selected
@output_options("module")
def command(adapter: str, output: Output, quiet: bool, html: Path | None, **settings: Any) -> None:
    """Write the LoRA ADAPTER at other ranks: the truncated SVD of each update scaling * B A, exact from its factors.

    The scaling of every module stays (alpha follows the rank, also for rsLoRA). DoRA and methods other than LoRA are
    refused: `spectra extract` makes a plain LoRA of them. The base is needed for the counts and for measuring only.
    """
    settings |= measured_tasks(settings)
    with parts_progress("scanning", quiet=quiet) as progress:
        result = spectra.resize(
            adapter,
            force=output.force,
            cache=spectra.FactorCache(),
            progress=progress,
            say=None if quiet else tell,
            **settings,
        )
    warn(result.warnings)
    output.emit(text=lambda: print_reduction(result), whole=result.to_dict, rows=result.rows)
    write_report(result, html)
