"""`spectra mitigate`: write an adapter whose intruder dimensions are scaled."""

from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.destinations import FolderDestination, WritingCommand
from spectra.cli.intervene import limit_options, print_points
from spectra.cli.option_types import Lambdas, Rank, Task
from spectra.cli.options import (
    device_option,
    name_options,
    quiet_option,
    selected,
    source_options,
    stacked,
    treated_options,
    trust_option,
    vector_options,
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress
from spectra.cli.tables import folding_table, print_folding
from spectra.cli.terminal import echo, tell, warn

if TYPE_CHECKING:
    from spectra import Mitigation, Selection

SHOWN = 20


choice_options = stacked(
    click.option(
        "--choose-by",
        type=Task(),
        metavar="TASK",
        help="Choose lambda on the validation split of this task, the one that ADAPTER was tuned on.",
    ),
    click.option(
        "--heldout",
        type=Task(),
        multiple=True,
        metavar="TASK[:MEASURE]",
        help="Held-out task to mend, with --choose-by; repeatable.",
    ),
    click.option(
        "--lambdas",
        type=Lambdas(),
        default="0,0.25,...,1",
        show_default=True,
        metavar="A,B,...,C",
        help="Factors to choose among, with --choose-by.",
    ),
    click.option(
        "--most-drop",
        type=click.FloatRange(min=0),
        default=0.01,
        show_default=True,
        help="Largest loss of task score allowed, with --choose-by.",
    ),
    limit_options,
)

plan_options = stacked(
    click.option(
        "--lambda",
        "lam",
        type=click.FloatRange(0, 2),
        default=0.7,
        show_default=True,
        help="Factor on the scaled singular values: 0 removes them, 1 changes nothing.",
    ),
    treated_options,
    click.option(
        "--rank",
        type=Rank(),
        default="exact",
        show_default=True,
        metavar="exact|same|N",
        help="Rank of the edited modules: present rank plus directions, the present rank, or at most N.",
    ),
    click.option("--shrink", is_flag=True, help="Instead shrink the whole update to the norm that the scaling leaves."),
)

scan_options = stacked(
    click.option(
        "-o",
        "--out",
        required=True,
        type=FolderDestination("adapter", "whole"),
        help="Folder that receives the adapter.",
    ),
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
@selected
def command(
    adapter: str,
    base: str | None,
    output: Output,
    quiet: bool,
    choose_by: Any,
    heldout: tuple[Any, ...],
    selection: "Selection",
    **settings: Any,
) -> None:
    """Scale the intruder dimensions of a LoRA ADAPTER by lambda, write it to OUT, scan again and print both counts.

    The result is an adapter that peft loads; DoRA and methods other than LoRA are refused. Modules saved whole, biases
    and everything else stay as they are. Embeddings and what stands outside the blocks are treated with --include.
    With --choose-by, lambda is chosen on validation splits: among the factors that cost little task score, the one that
    lowers the held-out losses most, or 1 where none lowers them.
    """
    if bool(choose_by) != bool(heldout):
        raise click.UsageError("--choose-by needs --heldout, and --heldout is for --choose-by. Give both or neither.")
    with parts_progress("mitigating", quiet=quiet) as progress:
        result = spectra.mitigate(
            adapter, base, selection=selection, force=output.force, choose_by=choose_by, heldout=heldout,
            cache=spectra.FactorCache(), progress=progress, say=tell, **settings,
        )  # fmt: skip
    warn(result.warnings)
    output.emit(text=lambda: print_mitigation(result), whole=result.to_dict, rows=result.rows)


def print_mitigation(result: "Mitigation") -> None:
    """How lambda was chosen, the treated matrices, most energy moved first, and the counts in words."""
    from rich.text import Text

    if result.choice is not None:
        rows = [row for row in result.curve if row.arm == result.choice.arm]
        for held_out in dict.fromkeys(row.heldout for row in rows):
            print_points([row for row in rows if row.heldout == held_out])
        echo(result.choice.reason + "\n")
    if result.matrices:
        table = folding_table("matrix", ("vectors", "rank", "norm before", "after", "lost energy"))
        for matrix in sorted(result.matrices, key=lambda matrix: -matrix.edit_norm)[:SHOWN]:
            table.add_row(
                Text(matrix.name),
                str(len(matrix.directions)),
                f"{matrix.rank_before} -> {matrix.rank_after}",
                f"{matrix.update_norm:.4g}",
                f"{matrix.written_norm:.4g}",
                f"{100 * matrix.lost_energy:.2g} %",
            )
        print_folding(table, more=len(result.matrices) - SHOWN, what="treated matrices (--json lists all)")
    for sentence in result.sentences:
        echo(sentence)
