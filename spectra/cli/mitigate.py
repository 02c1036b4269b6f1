"""`spectra mitigate`: write an adapter whose intruder dimensions are scaled."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.destinations import FolderDestination, WritingCommand
from spectra.cli.lambda_selection import Chosen, choice_options, chosen, print_choice
from spectra.cli.options import (
    device_option,
    name_options,
    quiet_option,
    source_options,
    stacked,
    treated_options,
    trust_option,
    vector_options,
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress
from spectra.cli.terminal import console, echo, warn

if TYPE_CHECKING:
    from spectra.interventions import Mitigation

SHOWN = 20


class Rank(click.ParamType):  # type: ignore[type-arg] # generic only in the newest versions of click
    """The words exact and same, or a positive number."""

    name = "rank"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        """The word, or the number of a text such as 16."""
        if value in ("exact", "same"):
            return str(value)
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"'{value}' is no rank. Write exact, same or a positive number.", param, ctx)
        return int(value)


plan_options = stacked(
    click.option(
        "--lambda",
        "lam",
        type=click.FloatRange(0, 2),
        default=0.7,
        show_default=True,
        help="Factor on the treated singular values: 0 removes, 1 changes nothing.",
    ),
    treated_options,
    click.option(
        "--rank",
        type=Rank(),
        default="exact",
        show_default=True,
        metavar="exact|same|N",
        help="Of treated modules: rank + directions, truncated to the present rank, or to at most N.",
    ),
    click.option("--shrink", is_flag=True, help="Write the whole update shrunk to the same norm instead."),
)

scan_options = stacked(
    click.option("-o", "--out", required=True, type=FolderDestination("adapter", "whole"), help="Folder to write."),
    vector_options,
    device_option,
    quiet_option,
    trust_option,
)


@click.command(
    cls=WritingCommand,
    epilog="Example:  spectra mitigate path/to/adapter --lambda 0.7 --select all -o path/to/mitigated",
)
@click.argument("adapter", metavar="ADAPTER")
@source_options
@plan_options
@name_options
@choice_options
@scan_options
@output_options("treated matrix")
def command(
    adapter: str,
    out: Path,
    output: Output,
    quiet: bool,
    choose_by: Any,
    heldout: tuple[Any, ...],
    **settings: Any,
) -> None:
    """Scale the intruder dimensions of a LoRA ADAPTER by lambda, write it to OUT, scan again and print both counts.

    The result is an adapter that peft loads; DoRA and methods other than LoRA are refused. Modules saved whole, biases
    and everything else are carried over. Embeddings and what stands outside the blocks are treated with --include.
    With --choose-by lambda is chosen on validation splits: of those that cost little task score, the one that lowers
    the held-out losses most; 1 if none does.
    """
    from spectra.engine.cache import FactorCache
    from spectra.interventions import mitigate

    made = chosen(adapter, choose_by, heldout, settings, quiet=quiet)
    with parts_progress("scanning", quiet=quiet) as progress:
        result = mitigate(adapter, out, cache=FactorCache(), progress=progress, force=output.force, **settings)
    warn(result.warnings)
    output.emit(
        text=lambda: _print(result, made),
        whole=lambda: {**result.to_dict(), **(made.to_dict() if made else {})},
        rows=lambda: [{"adapter": result.adapter, "lambda": result.lam, **asdict(one)} for one in result.matrices],
    )


def _print(result: "Mitigation", made: Chosen | None = None) -> None:
    """How lambda was chosen, the treated matrices, most energy moved first, and the counts in words."""
    from rich.table import Table
    from rich.text import Text

    shown = console(width=80)
    if made is not None:
        print_choice(made)
    if result.matrices:
        table = Table(box=None, pad_edge=False)
        table.add_column("matrix", overflow="fold", ratio=1)
        for heading in ("vectors", "rank", "norm before", "after", "lost energy"):
            table.add_column(heading, justify="right", no_wrap=True)
        for matrix in sorted(result.matrices, key=lambda matrix: -matrix.edit_norm)[:SHOWN]:
            table.add_row(
                Text(matrix.name),
                str(len(matrix.directions)),
                f"{matrix.rank_before} -> {matrix.rank_after}",
                f"{matrix.update_norm:.4g}",
                f"{matrix.written_norm:.4g}",
                f"{100 * matrix.lost_energy:.2g} %",
            )
        shown.print(table)
        if len(result.matrices) > SHOWN:
            shown.print(f"... and {len(result.matrices) - SHOWN} more treated matrices (--json lists all)")
    for sentence in sentences(result):
        echo(sentence)


def sentences(result: "Mitigation") -> list[str]:
    """What was done and what the second scan says."""
    if not result.matrices:
        return [f"No intruder dimension in {result.scanned} matrices: '{result.out}' equals '{result.adapter}'."]
    by = f"by lambda = {result.lam:g}"
    if result.shrink:
        done = (
            f"{len(result.matrices)} updates shrunk to the norm that scaling {result.directions} directions {by} leaves"
        )
    else:
        done = f"{result.directions} directions of {len(result.matrices)} matrices scaled {by}"
    told = [
        f"{done}: '{result.out}'.",
        f"{result.count_before} intruder dimensions before, {result.count_after} after "
        f"({result.scanned} matrices, k = {result.k}, epsilon = {result.epsilon:g}, left).",
    ]
    if result.largest_lost_energy > 0:
        told.append(f"Truncation lost up to {100 * result.largest_lost_energy:.2g} % of an update's energy.")
    return told
