"""`spectra merge`: several adapters of one base as one, with a forecast before."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.destinations import FileDestination, FolderDestination, WritingCommand
from spectra.cli.option_types import Numbers
from spectra.cli.options import (
    base_option,
    base_revision_option,
    device_option,
    name_options,
    overlap_options,
    pickle_option,
    quiet_option,
    selected,
    stacked,
    trust_option,
    vector_options,
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress
from spectra.cli.surgery_options import heldout_options, measured_tasks, rank_options, write_report
from spectra.cli.surgery_output import print_measured, print_reduction
from spectra.cli.terminal import console, echo, table_width, tell, warn
from spectra.storage.destinations import REPORT

if TYPE_CHECKING:
    from spectra.records.merge import Merge

SHOWN = 20

merge_options = stacked(
    click.option(
        "--weights", type=Numbers(), metavar="A,B,...", help="Weights of the adapters.  [default: 1 for each]"
    ),
    base_option,
    base_revision_option,
    pickle_option,
    click.option(
        "-o", "--out", type=FolderDestination("adapter", "whole"), help="Write the merged adapter to this folder."
    ),
    click.option(
        "--checkpoint",
        type=FolderDestination("checkpoint", "whole"),
        help="Write the merged full checkpoint to this folder.",
    ),
)

forecast_options = stacked(
    vector_options,
    overlap_options,
    click.option(
        "--critical/--no-critical",
        default=True,
        show_default=True,
        help="Search the scale of the merged update at which the first new intruder appears.",
    ),
    device_option,
    click.option("--seed", default=0, show_default=True, help="Seed of the random subspaces and of the bootstrap."),
    quiet_option,
    trust_option,
    click.option("--html", type=FileDestination(REPORT), help="Also write an HTML report to this file."),
)


@click.command(cls=WritingCommand, epilog="Example:  spectra merge adapter-a adapter-b --weights 1,0.5 -o merged")
@click.argument("adapters", metavar="ADAPTER ADAPTER...", nargs=-1, required=True)
@merge_options
@rank_options
@name_options
@heldout_options
@forecast_options
@selected
@output_options("matrix")
def command(adapters: tuple[str, ...], output: Output, quiet: bool, html: Path | None, **settings: Any) -> None:
    """Forecast what merging LoRA adapters of one base does to the spectra, and write the merge with -o.

    For W0 + sum of weight * delta_W: intruder dimensions that no single adapter has, overlap of the updates beside
    chance, energy that cancels, the scale up to which no new intruder appears, and the two adapters that interact most.
    The merged adapter stacks the factors and is exact; with --rank, --energy, --error or --parameters it is resized.
    """
    settings |= measured_tasks(settings)
    weights = settings.pop("weights")
    with parts_progress("forecasting", quiet=quiet) as progress:
        result = spectra.merge(
            adapters,
            weights=weights or None,
            force=output.force,
            cache=spectra.FactorCache(),
            progress=progress,
            say=None if quiet else tell,
            **settings,
        )
    warn(result.warnings)
    output.emit(text=lambda: _print(result), whole=result.to_dict, rows=result.rows)
    write_report(result, html)


def _print(result: "Merge") -> None:
    """The adapters, the matrices with new intruders or most norm, every two adapters, and the forecast in words."""
    from rich.table import Table
    from rich.text import Text

    shown = console(width=table_width())
    for place, (name, weight) in enumerate(zip(result.adapters, result.weights, strict=True), start=1):
        shown.print(Text(f"{place}  {weight:g} * {name}"))
    table = Table(box=None, pad_edge=False)
    table.add_column("matrix", overflow="fold", ratio=1)
    for heading in ("|sum|/|W0|", "cancelled", "single", "merged", "new", "clear up to"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in sorted(result.matrices, key=lambda matrix: (-matrix.new, -matrix.relative))[:SHOWN]:
        table.add_row(
            Text(one.name),
            f"{one.relative:.3g}",
            f"{100 * one.cancelled:+.1f} %",
            ",".join(map(str, one.counts)),
            str(one.count),
            str(one.new),
            "–" if one.clear_up_to is None else f"{one.clear_up_to:.3g}",
        )
    shown.print(table)
    if len(result.matrices) > SHOWN:
        shown.print(f"... and {len(result.matrices) - SHOWN} more matrices (--json lists all)")
    pairs = Table(box=None, pad_edge=False)
    for heading in ("pair", "matrices", "cosine", "phi out", "chance", "above", "phi in", "chance", "above"):
        pairs.add_column(heading, justify="right", no_wrap=True)
    for pair in result.pairs:
        pairs.add_row(
            f"{pair.first + 1} {pair.second + 1}",
            str(pair.matrices),
            f"{pair.cosine:+.3f}",
            f"{pair.phi_out:.3f}",
            f"{pair.expected_out:.3f}",
            f"{pair.above_out}",
            f"{pair.phi_in:.3f}",
            f"{pair.expected_in:.3f}",
            f"{pair.above_in}",
        )
    shown.print(pairs)
    print_measured(result.measured)
    for task in dict.fromkeys(one.task for one in result.measured):
        predicted = result.predicted(task)
        if predicted is not None:
            echo(f"{task}: {predicted:+.4f} if the adapters did not interact (weighted sum of the single ones).")
    if result.reduction is not None:
        print_reduction(result.reduction)
    for sentence in result.sentences():
        echo(sentence)
    for folder in (result.out, result.checkpoint):
        if folder is not None:
            echo(f"Written: {folder}")
