"""`spectra intervene`: do the intruders cause the forgetting, or does any update of that size?"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.destinations import FolderDestination, WritingCommand
from spectra.cli.option_types import CONTROLS, Controls, Lambdas, Task
from spectra.cli.options import (
    base_option,
    device_option,
    heldout_option,
    limit_option,
    max_length_option,
    name_options,
    precision_option,
    prompt_options,
    quiet_option,
    selected,
    stacked,
    treated_options,
    trust_option,
    vector_options,
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress, until_interrupted
from spectra.cli.tables import print_table
from spectra.cli.terminal import echo, tell, warn
from spectra.statistics.interval import interval_text

if TYPE_CHECKING:
    from spectra import InterventionRun, Selection
    from spectra.interventions import InterventionRow

# What a task is cut to; `spectra mitigate --choose-by` measures with the same options.
limit_options = stacked(
    limit_option,
    click.option(
        "--fit-limit",
        type=click.IntRange(min=1),
        help="Training examples that a probe is fitted on.  [default: 2000]",
    ),
    max_length_option,
    click.option(
        "--task-max-length",
        type=click.IntRange(min=2),
        help="Tokens that a text of the tuned task is cut to; use the value of the training.  [default: --max-length]",
    ),
    prompt_options,
)

task_options = stacked(
    heldout_option,
    click.option("--task", type=Task(), metavar="TASK", help="Task that CKPT was tuned on, scored with its own head."),
    limit_options,
)

edit_options = stacked(
    click.option(
        "--lambdas",
        type=Lambdas(),
        default="0,0.25,...,1.5",
        show_default=True,
        metavar="A,B,...,C",
        help="Factors on the scaled singular values: 0 removes them, 1 leaves the checkpoint as it is.",
    ),
    click.option(
        "--controls",
        type=Controls(),
        default="all",
        show_default=True,
        metavar="all|none|NAMES",
        help=f"Controls to measure: any of {', '.join(CONTROLS)}.",
    ),
    treated_options,
    vector_options,
)

measuring_options = stacked(
    device_option,
    precision_option,
    click.option("--seed", default=0, show_default=True, help="Seed of the random controls and of the bootstrap."),
    click.option(
        "-o",
        "--out",
        type=FolderDestination("intervene", "continued"),
        help="Keep finished points in this folder and take them from it; write tables and figures there.",
    ),
    quiet_option,
    trust_option,
)


@click.command(
    cls=WritingCommand,
    epilog="Example:  spectra intervene my-adapter --heldout bbc-news --task movie-sentiment --lambdas 0,0.5,1 -o out",
)
@click.argument("checkpoint", metavar="CKPT", type=click.Path(exists=True, file_okay=False))
@base_option
@task_options
@edit_options
@name_options
@measuring_options
@output_options("arm, lambda and held-out task")
@selected
def command(
    checkpoint: str, base: str | None, output: Output, quiet: bool, selection: "Selection", **settings: Any
) -> None:
    """Scale the intruder dimensions of CKPT by every lambda, beside controls, and measure what that changes.

    CKPT is a peft adapter folder or a full checkpoint folder; it is edited in memory and never written. Each arm edits
    the loaded model alike: the intruders, the whole update shrunk to the same norm (shrink), random directions,
    pre-trained neighbours, matrices without intruders. The verdict compares scaling the intruders with the shrink.
    """
    with parts_progress("intervening", quiet=quiet) as progress:
        record, interrupted = until_interrupted(
            lambda: spectra.intervene(
                checkpoint, base, selection=selection, force=output.force, cache=spectra.FactorCache(),
                progress=progress, say=tell, **settings,
            ),
            lambda done: "Interrupted: what is measured so far follows.",
        )  # fmt: skip
    warn(record.warnings)
    output.emit(text=lambda: print_run(record), whole=record.to_dict, rows=lambda: map(asdict, record.rows))
    if interrupted:
        sys.exit(130)


def print_run(record: "InterventionRun") -> None:
    """Everything for people; fits 80 columns."""
    echo(
        f"{record.directions} of {record.count} intruder dimensions scaled, in {len(record.treated)} of "
        f"{record.matrices} matrices (k = {record.k}, epsilon = {record.epsilon:g}, select: {record.select})."
    )
    for heldout in dict.fromkeys(row.heldout for row in record.rows):
        print_points([row for row in record.rows if row.heldout == heldout])
    if record.missing:
        echo(f"{len(record.missing)} points are not measured yet.")
    for one in record.contrasts:
        if one.control != "shrink":
            echo(one.sentence)
    for sentence in record.verdicts.values():
        echo(f"Verdict: {sentence}")


def print_points(rows: "Sequence[InterventionRow]") -> None:
    """The points of one held-out task."""
    first = rows[0]
    echo(
        f"\n{first.heldout}, {first.n:,} examples; forgot: loss minus that of the base ({first.base:.4g}), {first.unit}"
    )
    header = ("arm", "lambda", "norm", "score", "forgot", "interval", "change")
    told = [_cells(row) for row in rows if row.factor != 1 or row is _unedited(rows)]
    print_table(header, told, numeric=range(1, len(header)))
    if first.task_metric:
        echo(f"score: {first.task_metric} on {first.task_n:,} examples of {first.task}")


def _unedited(rows: "Sequence[InterventionRow]") -> "InterventionRow | None":
    """The row of the tuned model as it is; one is shown for all arms."""
    return next((row for row in rows if row.factor == 1), None)


def _cells(row: "InterventionRow") -> tuple[str, ...]:
    return (
        "as tuned" if row.factor == 1 else row.arm,
        f"{row.factor:g}",
        f"{100 * row.update_share:.0f}%",
        "" if row.task_score is None else f"{row.task_score:.4f}",
        f"{row.forgetting:+.4f}",
        interval_text(row.low, row.high, "+.4f"),
        "" if row.factor == 1 else f"{row.change:+.4f}",
    )
