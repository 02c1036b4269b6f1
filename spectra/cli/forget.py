"""`spectra forget`: what tuned checkpoints no longer do as well as their base."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.destinations import FolderDestination, WritingCommand
from spectra.cli.gate import Gate, gate_options
from spectra.cli.options import (
    base_option,
    device_option,
    heldout_option,
    limit_option,
    max_length_option,
    precision_option,
    prompt_options,
    quiet_option,
    trust_option,
)
from spectra.cli.output import Output, output_options
from spectra.cli.terminal import echo, tell

if TYPE_CHECKING:
    from collections.abc import Iterator

    from spectra import ForgettingRun
    from spectra.records.conditions import Case, Condition


@click.command(
    cls=WritingCommand,
    epilog="Example:  spectra forget path/to/adapter --heldout bbc-news --heldout brown:lm-loss --limit 100",
)
@click.argument(
    "checkpoints", nargs=-1, required=True, metavar="CKPT...", type=click.Path(exists=True, file_okay=False)
)
@heldout_option
@base_option
@limit_option
@max_length_option
@prompt_options
@device_option
@precision_option
@click.option("--seed", default=0, show_default=True, help="Seed of the bootstrap.")
@click.option(
    "-o",
    "--out",
    type=FolderDestination("forget", "continued"),
    help="Keep scores in this folder, and take finished ones from it.",
)
@trust_option
@quiet_option
@output_options("checkpoint and held-out task")
@gate_options
def command(
    checkpoints: tuple[str, ...],
    base: str | None,
    output: Output,
    quiet: bool,
    conditions: "tuple[Condition, ...]",
    junit: Path | None,
    **settings: Any,
) -> None:
    """Measure forgetting: the loss of each CKPT minus the base's, paired per example, with a bootstrap interval.

    CKPT is a peft adapter folder or a full checkpoint folder. TASK is an asset task, a file (.csv, .jsonl, .parquet,
    .txt) or lm-eval:NAME; MEASURE is linear-probe, nearest-neighbour, lm-loss, bits-per-byte, pseudo-loss,
    label-likelihood or rouge-l.
    """
    gate = Gate(conditions, junit)
    result = spectra.forget(checkpoints, base, say=None if quiet else tell, **settings)
    output.emit(text=lambda: print_forgetting(result), whole=result.to_dict, rows=result.rows)
    if conditions:
        gate.judge(_cases(result))


def _cases(result: "ForgettingRun") -> "Iterator[Case]":
    """What conditions are held against: every checkpoint on every held-out task."""
    from spectra.records.conditions import Case

    for row in result.rows():
        facts = {"forgetting": row["forgetting"], "forgetting.low": row["low"], "forgetting.high": row["high"]}
        yield Case(f"{row['checkpoint']}, {row['task']}", facts)


def print_forgetting(result: "ForgettingRun") -> None:
    """The verdict on every held-out task, checkpoint by checkpoint."""
    for checkpoint, forgotten in result.results.items():
        echo(f"{checkpoint} against {result.base}")
        for one in forgotten:
            echo("\n".join(f"  {sentence}" for sentence in (one.verdict, *one.warnings)))
