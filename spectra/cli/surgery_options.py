"""Options that the commands which make an adapter of another checkpoint share."""

from pathlib import Path
from typing import Any

import click

from spectra.cli.destinations import FileDestination
from spectra.cli.intervene import limit_options
from spectra.cli.option_types import LargeNumber, Task
from spectra.cli.options import device_option, quiet_option, stacked, trust_option, vector_options
from spectra.cli.terminal import echo, tell, warn
from spectra.storage.destinations import REPORT

LIMITS = ("limit", "fit_limit", "max_length", "task_max_length", "instruction")

rank_options = stacked(
    click.option("--rank", type=click.IntRange(min=1), help="Rank of every matrix."),
    click.option(
        "--energy",
        type=click.FloatRange(0, 1, min_open=True),
        help="Share of the update's squared norm that the smallest rank per matrix keeps.",
    ),
    click.option(
        "--error",
        type=click.FloatRange(0, 1, min_open=True, max_open=True),
        help="Share of the largest singular value up to which the smallest rank per matrix leaves values out.",
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
    "--task", type=Task(), metavar="TASK", help="Task that the model was tuned on, scored with its own head."
)

result_options = stacked(
    vector_options,
    click.option(
        "--count/--no-count", default=True, show_default=True, help="Count the intruder dimensions before and after."
    ),
    device_option,
    click.option("--seed", default=0, show_default=True, help="Seed of the random columns and of the bootstrap."),
    quiet_option,
    trust_option,
    click.option("--html", type=FileDestination(REPORT), help="Also write an HTML report to this file."),
)


def measured_tasks(settings: dict[str, Any]) -> dict[str, Any]:
    """The tasks among the options of a command, with their data; takes the options that belong to them."""
    from spectra.facade.tasks import held_out_tasks, own_task

    limits = {name: settings.pop(name) for name in LIMITS}
    heldout, task = settings.pop("heldout"), settings.pop("task", None)
    length, limit = limits.pop("task_max_length") or limits["max_length"], limits["limit"]
    found: dict[str, Any] = {"heldout": held_out_tasks(heldout, say=tell, **limits)} if heldout else {}
    if task:
        found["task"] = own_task(task, limit=limit, max_length=length, say=tell)
        warn(found["task"].data.warnings)
    return found


def write_report(result: Any, path: Path | None) -> None:
    """The page of a result, where one was asked for."""
    if path is None:
        return
    from spectra.records.provenance import command_line
    from spectra.report import write_surgery_report

    echo(f"Report: {write_surgery_report(result, path, command=command_line())}", err=True)
