"""`spectra advise`: rank and alpha per layer, from what was trained already."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.destinations import FileDestination, WritingCommand
from spectra.cli.option_types import LargeNumber
from spectra.cli.options import (
    Share,
    checkpoint_options,
    device_option,
    quiet_option,
    selected,
    selection_options,
    stacked,
    trust_option,
    vector_options,
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress
from spectra.cli.tables import folding_table, number, print_folding
from spectra.cli.terminal import echo, warn
from spectra.records.provenance import command_line
from spectra.storage.destinations import LORA_CONFIG

if TYPE_CHECKING:
    from spectra import Advice, Selection
    from spectra.advice import Verification

SHOWN = 48

budget_option = click.option(
    "--budget",
    type=LargeNumber(),
    metavar="NUMBERS",
    help="Trained numbers of the whole adapter, such as 500k, instead of --keep: they go where they hold most energy.",
)

advice_options = stacked(
    click.option(
        "--keep", type=Share, default=0.9, show_default=True, help="Share of each update's energy that its rank keeps."
    ),
    click.option("--max-rank", type=click.IntRange(min=1), help="Largest rank to advise.  [default: no limit]"),
    budget_option,
    click.option(
        "--alpha",
        default="2r",
        show_default=True,
        help="Alpha, as a multiple of the rank or a number, where SOURCE has no LoRA update.",
    ),
    click.option(
        "--headroom",
        type=Share,
        default=0.9,
        show_default=True,
        help="Advised scale as a fraction of the critical scale, at most.",
    ),
    click.option(
        "--draws", type=click.IntRange(min=1), default=15, show_default=True, help="Random directions per matrix."
    ),
    click.option("--seed", type=int, default=0, show_default=True, help="Seed of the random directions."),
    click.option(
        "--measure/--no-measure", default=True, show_default=True, help="Also scan growing multiples of the update."
    ),
    vector_options,
    device_option,
)

verify_options = stacked(
    click.option(
        "--verify",
        "verified",
        is_flag=True,
        help="Train the advice as SOURCE was trained, at a grid of learning rates, and report the outcome.",
    ),
    click.option(
        "--verify-out",
        type=click.Path(file_okay=False, path_type=Path),
        help="Run folder of that training.  [default: SOURCE-advised]",
    ),
    click.option(
        "-o", "--out", type=FileDestination(LORA_CONFIG), help="Write the arguments of peft's LoraConfig to this file."
    ),
    quiet_option,
    trust_option,
)


@click.command(cls=WritingCommand, epilog="Example:  spectra advise runs/default --keep 0.9 --max-rank 32 -o lora.json")
@click.argument("source", metavar="SOURCE")
@checkpoint_options
@advice_options
@selection_options
@verify_options
@output_options("matrix")
@selected
def command(
    source: str,
    base: str | None,
    output: Output,
    out: Path | None,
    verified: bool,
    verify_out: Path | None,
    quiet: bool,
    selection: "Selection",
    **options: Any,
) -> None:
    """Advise rank and alpha per matrix, ready for peft, from a checkpoint or a sweep.

    SOURCE is the run folder of `spectra sweep` or a checkpoint. The advised ranks keep a share of the
    energy of the full update, or of the LoRA update where nothing else was trained. The advised alphas stay below the
    scale at which the first intruder dimension is measured or predicted. The evidence is printed with the advice.
    """
    with parts_progress("advising", quiet=quiet) as progress:
        advice = spectra.advise(
            source, base, selection=selection, cache=spectra.FactorCache(), progress=progress, **options
        )
    if out is not None:
        write_config(advice, out)
    if verified:
        advice = trained(advice, source, verify_out or Path(f"{source.rstrip('/')}-advised"), quiet)
    warn(advice.warnings)
    output.emit(text=lambda: print_advice(advice), whole=advice.to_dict, rows=advice.rows)


def write_config(advice: "Advice", out: Path) -> None:
    """The keyword arguments of `peft.LoraConfig` as JSON."""
    from spectra.storage.atomic import write_json

    write_json(out, advice.lora_config())
    echo(f"LoraConfig: {out}", err=True)


def trained(advice: "Advice", source: str, folder: Path, quiet: bool) -> "Advice":
    """Train what was advised, with the progress of a sweep."""
    from spectra.advice import verifying
    from spectra.cli.sweep_progress import shown_progress

    command = command_line()
    with shown_progress(verifying(advice, spectra.Run.open(source)), folder, None, quiet=quiet) as on_event:
        return spectra.verify_advice(advice, source, folder, on_event=on_event, command=command)


def print_advice(advice: "Advice") -> None:
    """One line per matrix, then what it amounts to and what it rests on."""
    from rich.text import Text

    table = folding_table("matrix", ("rank", "energy", "alpha", "critical", "predicted"))
    for matrix in advice.matrices[:SHOWN]:
        in_use, critical = matrix.alpha_in_use, matrix.critical
        predicted = None if in_use is None or critical is None else in_use * critical.predicted
        table.add_row(
            Text(matrix.name),
            str(matrix.rank),
            f"{100 * matrix.energy_kept:.1f} %",
            f"{matrix.alpha:.4g}",
            number(matrix.critical_alpha),
            number(predicted),
        )
    print_folding(table, more=len(advice.matrices) - SHOWN, what="matrices (--csv lists all)")
    for sentence in sentences(advice):
        echo(sentence)
    if advice.verification is not None:
        print_verification(advice.verification)


def sentences(advice: "Advice") -> list[str]:
    """The whole in numbers, then the evidence."""
    ranks = sorted({matrix.rank for matrix in advice.matrices})
    told = [
        f"{f'Rank {ranks[0]}' if len(ranks) == 1 else f'Ranks {ranks[0]} to {ranks[-1]}'}, "
        f"{advice.parameters:,} trained numbers, keep "
        f"{100 * advice.energy_kept:.1f} % of the update's energy (asked: {advice.asked}).",
    ]
    if any(matrix.critical is not None for matrix in advice.matrices):
        told.append(
            "critical: the alpha at which the trained factors make their first intruder dimension "
            f"(k = {advice.k}, epsilon = {advice.epsilon:g}), measured where it could be; predicted: the same for a "
            "random direction, from the singular values of W0 alone."
        )
    return [*told, "This rests on:", *(f"- {sentence}" for sentence in advice.evidence)]


def print_verification(outcome: "Verification") -> None:
    """The advised configuration beside those it came from, and what became of the thresholds."""
    from rich.text import Text

    echo()
    table = folding_table("configuration", ("seeds", "rate", "validation", "test", "intruders", "|dW|", "trained"))
    for one in outcome.outcomes:
        figures = one.figures
        parameters = figures["trainable_parameters"]
        table.add_row(
            Text(one.label),
            str(one.seeds),
            number(figures["learning_rate"]),
            number(figures["validation_score"]),
            number(figures["task_score"]),
            number(figures["count"]),
            number(figures["update_frobenius"]),
            "–" if parameters is None else f"{parameters:,.0f}",
        )
    print_folding(table)
    for one in outcome.outcomes:
        lost = ", ".join(f"{task} {value:+.4f}" for task, value in one.forgetting.items())
        if lost:
            echo(f"Forgetting of {one.label}: {lost}")
    echo(outcome.choice)
    echo(outcome.sentence())
    echo(f"Run: {outcome.run}")
