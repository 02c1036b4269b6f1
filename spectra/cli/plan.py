"""`spectra plan`: ranks, alphas, learning rates and risks, before anything is trained for long."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.advise import budget_option
from spectra.cli.destinations import FolderDestination, WritingCommand
from spectra.cli.option_types import Task
from spectra.cli.options import Share, quiet_option, stacked, trust_option, vector_options
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress
from spectra.cli.tables import folding_table, minutes, number, print_folding, print_table, quantity
from spectra.cli.terminal import echo, warn
from spectra.records.provenance import command_line

if TYPE_CHECKING:
    from spectra import TrainingPlan
    from spectra.sweep import Event

SHOWN = 24
Positive = click.IntRange(min=1)

training_options = stacked(
    click.option(
        "--steps", type=Positive, default=150, show_default=True, help="Optimiser steps of the planned training."
    ),
    click.option("--batch-size", type=Positive, default=16, show_default=True, help="Examples per step."),
    click.option(
        "--max-length", type=click.IntRange(min=2), default=128, show_default=True, help="Tokens per example."
    ),
    click.option(
        "--precision",
        type=click.Choice(["float32", "bfloat16", "float16"]),
        default="float32",
        show_default=True,
        help="Arithmetic of the training.",
    ),
    click.option(
        "--head-learning-rate",
        type=click.FloatRange(0, min_open=True),
        help="Learning rate of a new task head.  [default: that of the body]",
    ),
    click.option("--train-examples", type=Positive, help="Training examples to use at most.  [default: all]"),
    click.option(
        "--validation-examples",
        type=Positive,
        default=200,
        show_default=True,
        help="Validation examples to use at most.",
    ),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of everything drawn."),
)

pilot_options = stacked(
    click.option(
        "--pilot-steps", type=Positive, default=20, show_default=True, help="Optimiser steps of each short training."
    ),
    click.option("--pilot-rank", type=Positive, default=64, show_default=True, help="Rank of the LoRA of the pilot."),
    click.option(
        "--full/--no-full",
        default=None,
        help="Also train all weights in the pilot.  [default: where they fit into memory]",
    ),
)

advice_options = stacked(
    click.option(
        "--keep", type=Share, default=0.9, show_default=True, help="Share of each early update's energy to keep."
    ),
    click.option("--max-rank", type=Positive, help="Largest rank to advise.  [default: that of the pilot]"),
    budget_option,
    click.option("--alpha", default="2r", show_default=True, help="Alpha, as a multiple of the rank or a number."),
    click.option(
        "--tolerance",
        type=click.FloatRange(0, min_open=True),
        default=0.1,
        show_default=True,
        help="Forgetting whose risk is asked for, in the unit of the held-out measure.",
    ),
    click.option("--draws", type=Positive, default=15, show_default=True, help="Random directions per matrix."),
    vector_options,
)


@click.command(
    cls=WritingCommand,
    epilog="Example:  spectra plan tiny-lm --task python-code --heldout brown:lm-loss --budget 200k -o plans/code",
)
@click.argument("base", metavar="BASE")
@click.option("--task", type=Task(), required=True, metavar="TASK", help="Task to train on, by name, file or fields.")
@click.option(
    "--heldout",
    type=Task(),
    multiple=True,
    metavar="TASK[:MEASURE]",
    help="Task that must not be forgotten; repeatable.",
)
@training_options
@pilot_options
@advice_options
@click.option(
    "-o",
    "--out",
    type=FolderDestination("plan", "continued"),
    help="Write adapter_config.json, sweep.yaml and plan.json to this folder, and keep the pilot there.",
)
@trust_option
@quiet_option
@output_options("matrix")
def command(base: str, output: Output, quiet: bool, out: Path | None, **settings: Any) -> None:
    """Plan a LoRA training from a pilot of a few steps: ranks, alphas, learning rates and risks.

    BASE is an asset, a folder or a hub id. The pilot trains LoRA of a large rank, and all weights where they fit, for
    --pilot-steps at a few learning rates. Ranks and modules follow from its updates, learning rates from its
    validation scores, the risk of intruder dimensions from the critical sizes of the weights. The files of -o are for
    peft and for `spectra sweep`, which tests the plan against rules of thumb.
    """
    with _shown(quiet=quiet, resumes=out is not None) as on_event, parts_progress("matrices", quiet=quiet) as progress:
        planned = spectra.plan(
            base,
            out=out,
            force=output.force,
            on_event=on_event,
            progress=progress,
            cache=spectra.FactorCache(),
            command=command_line(),
            **settings,
        )
    warn(planned.warnings)
    output.emit(text=lambda: print_plan(planned, out), whole=planned.to_dict, rows=planned.rows)


@contextmanager
def _shown(*, quiet: bool, resumes: bool) -> "Iterator[Callable[[Event], None]]":
    """What shows the events of the pilot; a Ctrl-C ends in one line."""
    from spectra.cli.sweep_progress import Lines, Pace

    try:
        # Three rates of each method, and the gradient; a grid that grows has more.
        yield (lambda event: None) if quiet else Lines(Pace(7))
    except KeyboardInterrupt:
        kept = "nothing is lost. Run the same command to go on." if resumes else "without -o nothing was kept."
        echo(f"Stopped; {kept}", err=True)
        sys.exit(130)


def print_plan(planned: "TrainingPlan", out: Path | None) -> None:
    """The grid of rates, the matrices, and what all that rests on."""
    from rich.text import Text

    print_table(
        ("learning rate", "matrices with intruders", "interval", "forgetting [interval] (risk)"),
        [
            (
                f"{one.learning_rate:g}{' *' if one.is_middle else ''}",
                f"{one.with_intruders:.1f} of {len(planned.matrices)}",
                f"{one.low:.0f} to {one.high:.0f}",
                "\n".join(_forgetting(lost) for lost in one.forgetting) or "–",
            )
            for one in planned.rates
        ],
        numeric=range(1, 3),
    )
    echo(f"* advised, between its neighbours; risk: of forgetting more than {planned.tolerance:g}")
    middle = next(place for place, one in enumerate(planned.rates) if one.is_middle)
    table = folding_table("matrix", ("rank", "alpha", "gradient", "update", "size", "critical", "risk"))
    for matrix in planned.matrices[:SHOWN]:
        risk = matrix.risks[middle]
        table.add_row(
            Text(matrix.name),
            str(matrix.rank),
            f"{matrix.alpha:g}",
            number(matrix.gradient_rank),
            number(matrix.update_rank),
            number(matrix.sizes[middle]),
            number(matrix.critical),
            "–" if risk is None else f"{100 * risk:.0f} %",
        )
    print_folding(table, more=len(planned.matrices) - SHOWN, what="matrices (--csv lists all)")
    echo(
        "gradient, update: effective ranks in the pilot; size: expected spectral norm of the update; critical: the "
        "size at which a random direction makes an intruder dimension."
    )
    told = f"{planned.advice.parameters:,} trained numbers"
    if planned.seconds is not None:
        told += f"; about {minutes(planned.seconds)} in optimiser steps here"
    if planned.peak_memory_bytes is not None:
        told += f", {quantity(planned.peak_memory_bytes, 'B')} of memory"
    echo(f"{told}. This rests on:")
    for sentence in planned.evidence:
        echo(f"- {sentence}")
    if out is not None:
        echo(f"peft: {out / 'adapter_config.json'}; test of the plan: spectra sweep {out / 'sweep.yaml'}")


def _forgetting(lost: Any) -> str:
    from spectra.advice.planning.records import forgetting_words

    return forgetting_words(lost)
