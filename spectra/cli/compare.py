"""`spectra compare`: checkpoints of one base side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.compare_output import print_comparison
from spectra.cli.destinations import FileDestination, WritingCommand
from spectra.cli.options import (
    cache_option,
    checkpoint_options,
    device_option,
    quiet_option,
    selection_options,
    side_option,
    stacked,
    vector_options,
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress
from spectra.cli.terminal import echo, warn
from spectra.storage.destinations import COMPARISON, REPORT

if TYPE_CHECKING:
    from spectra.records.comparison import Comparison

overlap_options = stacked(
    click.option(
        "--top", type=click.IntRange(min=1), default=8, show_default=True, help="Leading directions of each update."
    ),
    click.option(
        "--draws", type=click.IntRange(min=1), default=99, show_default=True, help="Random subspaces behind each null."
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Of the random subspaces."),
    device_option,
    cache_option,
)


@click.command(
    cls=WritingCommand,
    epilog="Example:  spectra compare adapter-seed-0 adapter-seed-1 full-checkpoint --base roberta-base",
)
@click.argument("checkpoints", metavar="CKPT CKPT...", nargs=-1, required=True)
@checkpoint_options
@overlap_options
@vector_options
@side_option
@selection_options
@output_options("pair of checkpoints, matrix and side")
@click.option("-o", "--out", type=FileDestination(COMPARISON), help="Also write the JSON object here.")
@click.option("--html", type=FileDestination(REPORT), help="Also write an HTML report here.")
@quiet_option
def command(
    checkpoints: tuple[str, ...], output: Output, out: Path | None, html: Path | None, quiet: bool, **options: Any
) -> None:
    """Put checkpoints of one base side by side: intruders, norms and ranks, and whose updates point the same way.

    The overlap of two updates of a matrix is phi = ||U_1^T U_2||_F^2 / min(i, j) of their leading singular vectors
    (Hu et al., arXiv:2106.09685, section 7.2), beside the phi of random subspaces, expected and simulated.
    """
    result = compared(checkpoints, quiet=quiet, **options)
    warn(result.warnings)
    output.emit(text=lambda: print_comparison(result), whole=result.to_dict, rows=lambda: result.rows("overlaps"))
    if out is not None:
        from spectra.storage.atomic import write_json

        write_json(out, result.to_dict())
    if html is not None:
        from spectra.records.provenance import command_line
        from spectra.report import write_comparison_report

        echo(f"Report: {write_comparison_report(result, html, command=command_line())}", err=True)


def compared(checkpoints: tuple[str, ...], *, quiet: bool, cache: bool, **options: Any) -> "Comparison":
    """The comparison, with progress."""
    from spectra.engine.cache import FactorCache
    from spectra.scanning.compare import compare

    with parts_progress("comparing", quiet=quiet) as progress:
        return compare(checkpoints, cache=FactorCache() if cache else None, progress=progress, **options)
