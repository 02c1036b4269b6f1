"""`spectra status`: what a run has done, what failed and why, what is left."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.destinations import WritingCommand
from spectra.cli.output import Output, output_options
from spectra.cli.tables import minutes, print_table
from spectra.cli.terminal import echo

if TYPE_CHECKING:
    from spectra import RunStatus


@click.command(cls=WritingCommand, epilog="Example:  spectra status runs/demo")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@output_options("trial", json_help="Print one JSON object instead of a table.")
def command(run: Path, output: Output) -> None:
    """Show where every trial of a run folder stands; it may be running at the same time."""
    found = spectra.status(run)
    output.emit(text=lambda: print_status(found), whole=found.to_dict, rows=found.rows)


def print_status(found: "RunStatus") -> None:
    """One line per trial, every error, and how many trials are in each state."""
    print_table(
        ("trial", "configuration", "rate", "seed", "state"),
        [(row["id"], row["label"], *rate_and_seed(row), row["state"]) for row in found],
        numeric=range(2, 4),
    )
    for row in found:
        if row["error"]:
            echo(f"{row['id']}: {row['error']}")
    if spent := found.seconds_by_part:
        done = sum(bool(row["seconds"]) for row in found)
        parts = ", ".join(f"{part} {minutes(seconds)}" for part, seconds in spent.items())
        echo(f"Time of {done} trials by part: {parts}")
    states = [row["state"] for row in found]
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    left = found.train_seconds_left
    echo(counted + (f"; about {minutes(left)} of training left, one trial at a time" if left is not None else ""))


def rate_and_seed(row: Mapping[str, Any]) -> tuple[str, str]:
    """Learning rate and seed of a trial; empty for a checkpoint that existed already."""
    rate = row["learning_rate"]
    return "" if rate is None or rate != rate else f"{rate:g}", "" if row["seed"] is None else str(row["seed"])
