"""`spectra intervene`: do the intruders cause the forgetting, or does any update of that size?"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.intervene_output import print_run
from spectra.cli.options import name_options, stacked
from spectra.cli.output import Output, output_options
from spectra.cli.progress import parts_progress

if TYPE_CHECKING:
    from spectra.forgetting import HeldOut
    from spectra.interventions import Experiment, InterventionRun, OwnTask

CONTROLS = ("shrink", "shrink-all", "random", "random-matched", "neighbour", "stand-in")
MOST_FACTORS = 50
LIMITS = ("limit", "fit_limit", "max_length", "task_max_length", "instruction")


class Lambdas(click.ParamType):
    """Numbers from 0 to 2 with commas between; "a,b,...,c" goes on from a and b in equal steps to c."""

    name = "lambdas"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """The numbers, increasing."""
        parts = [part.strip() for part in str(value).split(",")]
        try:
            numbers = _expanded(parts)
        except (ValueError, IndexError):
            self.fail(f"'{value}' is no list of factors. Write for instance 0,0.5,1,1.5 or 0,0.25,...,1.5.", param, ctx)
        if outside := [number for number in numbers if not 0 <= number <= 2]:
            self.fail(f"{outside[0]:g} lies outside 0 to 2.", param, ctx)
        return tuple(sorted(set(numbers)))


class Controls(click.ParamType):
    """The words all and none, or names of controls with commas between."""

    name = "controls"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names."""
        if value in ("all", "none"):
            return CONTROLS if value == "all" else ()
        names = tuple(part.strip() for part in str(value).split(","))
        if unknown := [name for name in names if name not in CONTROLS]:
            self.fail(f"There is no control '{unknown[0]}'. Choose among {', '.join(CONTROLS)}.", param, ctx)
        return names


# What a task is cut to; `spectra mitigate --choose-by` measures with the same options.
limit_options = stacked(
    click.option("--limit", type=click.IntRange(min=1), help="Examples to score per task.  [default: all]"),
    click.option(
        "--fit-limit",
        type=click.IntRange(min=1),
        help="Training examples that a probe is fitted on.  [default: 2000]",
    ),
    click.option("--max-length", type=click.IntRange(min=2), default=256, show_default=True, help="Tokens per text."),
    click.option(
        "--task-max-length",
        type=click.IntRange(min=2),
        help="Of the task tuned on; use that of training.  [default: --max-length]",
    ),
    click.option("--instruction", help="Text between an input and the answer, for generative models."),
    click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True),
)

task_options = stacked(
    click.option(
        "--heldout", required=True, multiple=True, metavar="TASK[:MEASURE]", help="Held-out task; repeatable."
    ),
    click.option("--task", metavar="TASK", help="The task it was tuned on, scored with the model's own head."),
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
    click.option(
        "--select",
        type=click.Choice(["top", "all", "energy"]),
        default="top",
        show_default=True,
        help="Of each matrix: its highest-ranked intruder, all, or the fewest that hold --share of their energy.",
    ),
    click.option("--share", type=click.FloatRange(0, 1, min_open=True), default=0.9, show_default=True),
    click.option("-k", type=click.IntRange(min=1), default=10, show_default=True, help="Leading vectors per matrix."),
    click.option(
        "--epsilon",
        type=click.FloatRange(0, 1, min_open=True),
        default=0.5,
        show_default=True,
        help="Cosine below which a vector counts.",
    ),
)

measuring_options = stacked(
    click.option("--device", default="cpu", show_default=True, help="Where to scan and measure, such as cuda."),
    click.option(
        "--dtype", type=click.Choice(["float32", "bfloat16", "float16"]), default="float32", show_default=True
    ),
    click.option("--seed", default=0, show_default=True, help="Of random controls and of the bootstrap."),
    click.option(
        "-o",
        "--out",
        type=click.Path(file_okay=False, path_type=Path),
        help="Keep finished points here and resume; write tables and figures.",
    ),
    click.option("-q", "--quiet", is_flag=True, help="No progress on stderr."),
)


@click.command(
    epilog="Example:  spectra intervene my-adapter --heldout bbc-news --task movie-sentiment --lambdas 0,0.5,1 -o out"
)
@click.argument("checkpoint", metavar="CKPT", type=click.Path(exists=True, file_okay=False))
@click.option("--base", help="Base model: asset, folder or hub id.  [default: the one that the adapter names]")
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
    experiment = _prepared(checkpoint, out, quiet=quiet, **settings)
    interrupted = _run(experiment, quiet=quiet)
    record = experiment.record()
    experiment.write(record)
    if out is not None:
        _draw(out)
    _emit(record, output)
    if interrupted:
        sys.exit(130)


def _prepared(
    checkpoint: str, out: Path | None, *, quiet: bool, heldout: tuple[str, ...], task: str | None, **settings: Any
) -> "Experiment":
    """Load the tasks, scan the checkpoint, build the arms."""
    from spectra.analysis.cache import FactorCache
    from spectra.interventions import experiment

    limits = {name: settings.pop(name) for name in LIMITS}
    held_out = held_out_tasks(heldout, limits)
    own = own_task(task, limits) if task else None
    with parts_progress("scanning", quiet=quiet) as progress:
        return experiment(
            checkpoint, held_out, task=own, folder=out, cache=FactorCache(), progress=progress, **settings
        )


def held_out_tasks(specs: Sequence[str], limits: Mapping[str, Any]) -> "list[HeldOut]":
    """The held-out tasks with their data."""
    from spectra.forgetting import open_held_out

    settings = {name: value for name, value in limits.items() if name != "task_max_length" and value is not None}
    return [open_held_out(spec, progress=_say, **settings) for spec in specs]


def own_task(spec: str, limits: Mapping[str, Any]) -> "OwnTask":
    """The task that was tuned on, with its data."""
    from spectra.data import load_task
    from spectra.interventions import OwnTask

    length = limits["task_max_length"] or limits["max_length"]
    return OwnTask(load_task(spec, progress=_say), limit=limits["limit"], max_length=length)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _run(experiment: "Experiment", *, quiet: bool) -> bool:
    """Measure with progress. True when Ctrl-C ended it: what is done stays usable, and a rerun continues."""
    try:
        with parts_progress("measuring", quiet=quiet) as progress:
            experiment.run(progress)
    except KeyboardInterrupt:
        again = " Run the same command to continue." if experiment.folder is not None else ""
        click.echo(f"Interrupted: what is measured so far follows.{again}", err=True)
        return True
    return False


def _draw(folder: Path) -> None:
    """The curves as figures beside the tables."""
    from spectra.figures import write_figures

    write_figures(folder, folder, kind="svg", force=True)


def _emit(record: "InterventionRun", output: Output) -> None:
    """Data to stdout, warnings to stderr."""
    for warning in record.warnings:
        click.echo(f"Warning: {warning}", err=True)
    output.emit(text=lambda: print_run(record), whole=record.to_dict, rows=lambda: map(asdict, record.rows))


def _expanded(parts: list[str]) -> list[float]:
    """The numbers of "a,b,...,c"; without the dots those that stand there."""
    if "..." not in parts:
        return [float(part) for part in parts]
    place = parts.index("...")
    before, after = [float(part) for part in parts[:place]], [float(part) for part in parts[place + 1 :]]
    step, last = before[-1] - before[-2], after[0]
    count = round((last - before[-1]) / step)
    if not 0 < count <= MOST_FACTORS or abs(before[-1] + count * step - last) > 1e-6:
        raise ValueError(f"steps of {step:g} from {before[-1]:g} do not end at {last:g}")
    return [*before, *(round(before[-1] + number * step, 9) for number in range(1, count)), *after]
