"""Options that the commands which make an adapter of another checkpoint share."""

from pathlib import Path
from typing import Any

import click

from spectra.cli.destinations import FileDestination
from spectra.cli.intervene import limit_options
from spectra.cli.options import device_option, quiet_option, stacked, trust_option, vector_options
from spectra.cli.quantities import LargeNumber
from spectra.cli.task_option import Task
from spectra.cli.terminal import echo
from spectra.storage.destinations import REPORT

LIMITS = ("limit", "fit_limit", "max_length", "task_max_length", "instruction")

rank_options = stacked(
    click.option("--rank", type=click.IntRange(min=1), help="The same rank for every matrix."),
    click.option(
        "--energy",
        type=click.FloatRange(0, 1, min_open=True),
        help="Per matrix the smallest rank that keeps this share of the update's squared norm.",
    ),
    click.option(
        "--error",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Per matrix the smallest rank that leaves out singular values up to this share of the largest.",
    ),
    click.option(
        "--parameters",
        type=LargeNumber(),
        metavar="N",
        help="Numbers in all factors, such as 10M, spread so that the sum of squared errors is least.",
    ),
)

heldout_options = stacked(
    click.option(
        "--heldout",
        type=Task(),
        multiple=True,
        metavar="TASK[:MEASURE]",
        help="Held-out task on which forgetting is measured; repeatable.",
    ),
    limit_options,
)

task_option = click.option(
    "--task", type=Task(), metavar="TASK", help="The task it was tuned on, scored with the model's own head."
)

result_options = stacked(
    vector_options,
    click.option("--count/--no-count", default=True, show_default=True, help="Count intruder dimensions of both."),
    device_option,
    click.option("--seed", default=0, show_default=True, help="Of random columns and of the bootstrap."),
    quiet_option,
    trust_option,
    click.option("--html", type=FileDestination(REPORT), help="Also write an HTML report here."),
)


def measured_tasks(settings: dict[str, Any]) -> dict[str, Any]:
    """The tasks among the options of a command, with their data; takes the options that belong to them."""
    from spectra.cli.intervene import held_out_tasks, own_task

    limits = {name: settings.pop(name) for name in LIMITS}
    heldout, task = settings.pop("heldout"), settings.pop("task", None)
    found: dict[str, Any] = {"heldout": held_out_tasks(heldout, limits)} if heldout else {}
    if task:
        found["task"] = own_task(task, limits)
    return found


def say(line: str) -> None:
    """A line of progress on stderr."""
    echo(line, err=True)


def write_report(result: Any, path: Path | None) -> None:
    """The page of a result, where one was asked for."""
    if path is None:
        return
    from spectra.records.provenance import command_line
    from spectra.report import write_surgery_report

    echo(f"Report: {write_surgery_report(result, path, command=command_line())}", err=True)
