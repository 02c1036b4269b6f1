"""`spectra extract`: the best LoRA of a full fine-tuning, with what it leaves out."""

from pathlib import Path
from typing import Any

import click

import spectra
from spectra.cli.destinations import FolderDestination, WritingCommand
from spectra.cli.options import (
    base_option,
    base_revision_option,
    name_options,
    pickle_option,
    revision_option,
    selected,
    stacked,
)
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

source_options = stacked(
    base_option,
    click.option(
        "-o",
        "--out",
        required=True,
        type=FolderDestination("adapter", "whole"),
        help="Folder that receives the adapter.",
    ),
    revision_option,
    base_revision_option,
    pickle_option,
    click.option(
        "--modules-to-save",
        metavar="KINDS",
        default="",
        help="Changed parameters to save whole: all, or any of norms,biases,embeddings,others.",
    ),
    click.option("--beside", metavar="ADAPTER", help="Adapter that was trained at this size, to be measured too."),
    click.option(
        "--dtype",
        type=click.Choice(["float32", "float64"]),
        default="float32",
        show_default=True,
        help="Floating-point type of the factorisations.",
    ),
)


@click.command(
    cls=WritingCommand, epilog="Example:  spectra extract my-full-checkpoint --base roberta-base --rank 16 -o extracted"
)
@click.argument("tuned", metavar="TUNED")
@source_options
@rank_options
@name_options
@task_option
@heldout_options
@result_options
@selected
@output_options("matrix")
def command(tuned: str, output: Output, quiet: bool, html: Path | None, modules_to_save: str, **settings: Any) -> None:
    """Write the LoRA adapter that is nearest to the full fine-tuning TUNED of BASE, and say what it leaves out.

    B A is the truncated SVD of W_tuned - W0, matrix by matrix. The table shows the norm that is left out as measured,
    and the least that any factors of that rank leave out (Eckart-Young, bracketed). Choose ranks by one of --rank,
    --energy, --error and --parameters.
    """
    settings |= measured_tasks(settings)
    kinds = [word.strip() for word in modules_to_save.split(",") if word.strip()]
    with parts_progress("extracting", quiet=quiet) as progress:
        result = spectra.extract(
            tuned,
            modules_to_save=kinds,
            force=output.force,
            cache=spectra.FactorCache(),
            progress=progress,
            say=None if quiet else tell,
            **settings,
        )
    warn(result.warnings)
    output.emit(text=lambda: print_reduction(result), whole=result.to_dict, rows=result.rows)
    write_report(result, html)
