"""`spectra intervene`: do the intruders cause the forgetting, or does any update of that size?"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.destinations import FolderDestination, WritingCommand
from spectra.cli.intervene_output import print_run
from spectra.cli.intervene_types import CONTROLS, Controls, Lambdas
from spectra.cli.options import (
    device_option,
    heldout_option,
    limit_option,
    max_length_option,
    name_options,
    precision_option,
    prompt_options,
    quiet_option,
    stacked,
    treated_options,
    trust_option,
    vector_options,
)
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress
from spectra.cli.task_option import Task
from spectra.cli.terminal import echo, warn

if TYPE_CHECKING:
    from spectra.forgetting import HeldOut
    from spectra.interventions import Experiment, InterventionRun, OwnTask

LIMITS = ("limit", "fit_limit", "max_length", "task_max_length", "instruction")


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
        help="Of the task tuned on; use that of training.  [default: --max-length]",
    ),
    prompt_options,
)

task_options = stacked(
    heldout_option,
    click.option(
        "--task", type=Task(), metavar="TASK", help="The task it was tuned on, scored with the model's own head."
    ),
    limit_options,
)

edit_options = stacked(
    click.option(
        "--lambdas",
        type=Lambdas(),
        default="0,0.25,...,1.5",
        show_default=True,
        metavar="A,B,...,C",
        help="Factors on the treated singular values: 0 removes, 1 is the checkpoint as it is.",
    ),
    click.option(
        "--controls",
        type=Controls(),
        default="all",
        show_default=True,
        metavar="all|none|NAMES",
        help=f"Any of {', '.join(CONTROLS)}.",
    ),
    treated_options,
    vector_options,
)

measuring_options = stacked(
    device_option,
    precision_option,
    click.option("--seed", default=0, show_default=True, help="Of random controls and of the bootstrap."),
    click.option(
        "-o",
        "--out",
        type=FolderDestination("intervene", "continued"),
        help="Keep finished points here and resume; write tables and figures.",
    ),
    quiet_option,
    trust_option,
)


@click.command(
    cls=WritingCommand,
    epilog="Example:  spectra intervene my-adapter --heldout bbc-news --task movie-sentiment --lambdas 0,0.5,1 -o out",
)
@click.argument("checkpoint", metavar="CKPT", type=click.Path(exists=True, file_okay=False))
@click.option(
    "--base", metavar="BASE", help="Base model: asset, folder or hub id.  [default: the one that the adapter names]"
)
@task_options
@edit_options
@name_options
@measuring_options
@output_options("arm, lambda and held-out task")
def command(checkpoint: str, output: Output, out: Path | None, quiet: bool, **settings: Any) -> None:
    """Scale the intruder dimensions of CKPT by every lambda, beside controls, and measure what that changes.

    CKPT is a peft adapter folder or a full checkpoint folder; it is edited in memory and never written. Each arm edits
    the loaded model alike: the intruders, the whole update shrunk to the same norm (shrink), random directions,
    pre-trained neighbours, matrices without intruders. The verdict holds the intruders against the shrink.
    """
    _require_own(out, checkpoint, force=output.force)
    experiment = _prepared(checkpoint, out, quiet=quiet, **settings)
    interrupted = _run(experiment, quiet=quiet)
    record = experiment.record()
    experiment.write(record)
    if out is not None:
        _draw(out)
    _emit(record, output)
    if interrupted:
        sys.exit(130)


def _require_own(out: Path | None, checkpoint: str, *, force: bool) -> None:
    """A folder goes on with its own checkpoint; the tables of another are not written over."""
    from spectra.storage.atomic import read_json

    if out is not None and not force and (out / "interventions.json").exists():
        there = read_json(out / "interventions.json").get("checkpoint")
        if there != checkpoint:
            raise click.ClickException(f"'{out}' holds the tables of '{there}'. Choose another --out, or add --force.")


def _prepared(
    checkpoint: str, out: Path | None, *, quiet: bool, heldout: tuple[Any, ...], task: Any, **settings: Any
) -> "Experiment":
    """Load the tasks, scan the checkpoint, build the arms."""
    from spectra.engine.cache import FactorCache
    from spectra.interventions import experiment

    limits = {name: settings.pop(name) for name in LIMITS}
    held_out = held_out_tasks(heldout, limits)
    own = own_task(task, limits) if task else None
    with parts_progress("scanning", quiet=quiet) as progress:
        return experiment(
            checkpoint, held_out, task=own, folder=out, cache=FactorCache(), progress=progress, **settings
        )


def held_out_tasks(specs: Sequence[Any], limits: Mapping[str, Any], *, whole: bool = True) -> "list[HeldOut]":
    """The held-out tasks with their data; not `whole` where a choice needs validation rows."""
    from spectra.forgetting import open_held_out

    settings = {name: value for name, value in limits.items() if name != "task_max_length" and value is not None}
    return [open_held_out(spec, whole=whole, progress=_say, **settings) for spec in specs]


def own_task(spec: Any, limits: Mapping[str, Any]) -> "OwnTask":
    """The task that was tuned on, with its data."""
    from spectra.data import load_task
    from spectra.interventions import OwnTask

    length = limits["task_max_length"] or limits["max_length"]
    data = load_task(spec, progress=_say)
    for sentence in data.warnings:
        echo(f"Warning: {sentence}", err=True)
    return OwnTask(data, limit=limits["limit"], max_length=length)


def _say(line: str) -> None:
    echo(line, err=True)


def _run(experiment: "Experiment", *, quiet: bool) -> bool:
    """Measure with progress. True when Ctrl-C ended it: what is done stays usable, and a rerun continues."""
    try:
        with parts_progress("measuring", quiet=quiet) as progress:
            experiment.run(progress)
    except KeyboardInterrupt:
        again = " Run the same command to continue." if experiment.folder is not None else ""
        echo(f"Interrupted: what is measured so far follows.{again}", err=True)
        return True
    return False


def _draw(folder: Path) -> None:
    """The curves as figures beside the tables."""
    from spectra.figures import write_figures

    write_figures(folder, folder, kind="svg", force=True)


def _emit(record: "InterventionRun", output: Output) -> None:
    """Data to stdout, warnings to stderr."""
    warn(record.warnings)
    output.emit(text=lambda: print_run(record), whole=record.to_dict, rows=lambda: map(asdict, record.rows))
