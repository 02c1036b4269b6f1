"""`spectra sweep`: train, scan and measure every trial of a specification, then write tables and report."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import spectra
from spectra.cli.garbage import uncollected
from spectra.cli.option_types import Shard
from spectra.cli.options import presets_of, quiet_option, stacked, trust_option
from spectra.cli.status import rate_and_seed
from spectra.cli.tables import minutes, print_table, quantity
from spectra.cli.terminal import echo, warn
from spectra.records.provenance import command_line

if TYPE_CHECKING:
    import pandas as pd

    from spectra import Run, SweepPlan


cluster_options = stacked(
    click.option("--ray", metavar="auto|ADDRESS", help="Spread the trials over a Ray cluster; ADDRESS is HOST:PORT."),
    click.option(
        "--cpus-per-trial",
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        show_default=True,
        help="CPUs, and threads, per trial, with --ray.",
    ),
    click.option(
        "--gpus-per-trial",
        type=click.FloatRange(0),
        help="GPUs per trial.  [default: one where there are GPUs, or one per process of a launch]",
    ),
)


@click.command(
    epilog="Example:  spectra sweep rank=1,8,64 alpha=2r,8 seed=0..2 --out runs/ranks",
)
@click.argument("spec_and_axes", nargs=-1, metavar="[SPEC] [AXIS=VALUES...]")
@click.option(
    "--preset",
    default="default",
    show_default=True,
    shell_complete=presets_of("sweep"),
    help="Specification to use when no SPEC is given.",
)
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder.  [default: runs/NAME]")
@click.option(
    "--plan", "plan_only", is_flag=True, help="Print the trials and what they are expected to cost, and run nothing."
)
@click.option("--shard", type=Shard(), help="Run the i-th of n shares of the trials, for job arrays.")
@click.option(
    "--workers", type=click.IntRange(min=1), help="Number of worker processes.  [default: one per GPU, or one]"
)
@cluster_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@trust_option
@quiet_option
def command(
    spec_and_axes: tuple[str, ...],
    preset: str,
    out: Path | None,
    plan_only: bool,
    shard: tuple[int, int] | None,
    workers: int | None,
    ray: str | None,
    as_json: bool,
    quiet: bool,
    **cluster: Any,
) -> None:
    """Fine-tune paired models, count their intruder dimensions, measure what they forgot.

    SPEC is a YAML file; without one a preset is used. Axes replace its values: rank=1,8,64 seed=0..2 steps=100.
    Finished trials are never run again: the same command continues where it was stopped. The exit code is 1 if a trial
    failed.
    """
    if plan_only:
        # Read when the libraries of the hub are imported: a plan asks nobody, and so it answers at once.
        os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
        if not quiet:
            echo("Planning offline: nothing is fetched, converted or written.", err=True)
    source = next((word for word in spec_and_axes[:1] if "=" not in word), preset)
    axes = [word for word in spec_and_axes if word != source]
    folder = out or Path("runs") / Path(source).stem
    if plan_only:
        with uncollected():
            print_plan(spectra.plan_sweep(source, folder, axes=axes), as_json=as_json)
        return
    from spectra.cli.sweep_progress import shown_progress
    from spectra.facade.sweep import planned_trials
    from spectra.sweep import read_specification

    specification = read_specification(source, axes)
    with shown_progress(specification, folder, shard, quiet=quiet) as on_event:
        run = spectra.run_sweep(
            specification,
            folder,
            shard=shard or (1, 1),
            executor="ray" if ray else "local",
            workers=workers,
            ray=ray or "auto",
            **cluster,
            on_event=on_event,
            command=command_line(),
        )
    if as_json:
        echo(json.dumps(run.to_dict(), indent=2))
    else:
        print_results(run)
    trials = run.table("trials")
    asked = [trial.id for trial in planned_trials(specification, shard or (1, 1))]
    if (trials["trial"].isin(asked) & (trials["error"] != "")).any():
        sys.exit(1)


def print_plan(planned: "SweepPlan", *, as_json: bool) -> None:
    """The trials of a sweep and what they are expected to cost."""
    from spectra.sweep.spec.plan import repeated

    absent = planned.downloads
    told = "Everything that the sweep needs is at hand."
    if absent:
        told = "\n".join(["The sweep would download:", *(f"  {one}" for one in absent)])
    if as_json:
        echo(json.dumps(planned.to_dict(), indent=2))
        echo(told, err=True)
        print_account(planned.account, err=True)
        warn(repeated(planned.trials))
        return
    seeds: dict[tuple[str, ...], list[str]] = {}
    for trial, row in zip(planned.trials, planned, strict=True):
        rate, seed = rate_and_seed(trial.described())
        cost = (
            quantity(row["trainable_parameters"]),
            quantity(row["optimiser_bytes"], "B"),
            quantity(row["disk_bytes"], "B"),
            minutes(row["seconds"]),
        )
        seeds.setdefault((trial.label, rate, *cost), []).append(seed)
    print_table(
        ("configuration", "rate", "seed", "trained", "optimiser", "disk", "time"),
        [(label, rate, _counted(numbers), *cost) for (label, rate, *cost), numbers in seeds.items()],
        numeric=range(1, 7),
    )
    if any(len(numbers) > 1 for numbers in seeds.values()):
        echo("What a row says holds for each of its seeds.")
    known = [row["seconds"] for row in planned if row["seconds"] is not None]
    total = f"training takes very roughly {minutes(sum(known))} here" if known else "the time cannot be estimated"
    if not planned.is_trained:
        total = "all exist already and nothing is trained, the time of measuring is unknown"
    echo(f"{len(planned)} trials; {total}; keep: {planned.keep}.")
    print_account(planned.account)
    warn(repeated(planned.trials))
    echo(told)


def _counted(seeds: Sequence[str]) -> str:
    """Seeds as a specification writes them: 0..4 for neighbours in order."""
    numbers = [int(seed) for seed in seeds if seed]
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[0] + len(numbers))):
        return f"{numbers[0]}..{numbers[-1]}"
    return ", ".join(seeds)


def print_results(run: "Run") -> None:
    """The outcome of a sweep: one line per configuration at its chosen learning rate."""
    trials, forgetting = run.table("trials"), run.table("forgetting")
    heldout = list(dict.fromkeys(forgetting["heldout"]))
    rows = [
        (
            one.label,
            "" if one.learning_rate is None else f"{one.learning_rate:g}",
            "" if one.score is None else f"{one.score:.4f}" + ("" if one.spread is None else f" ±{one.spread:.3f}"),
            *(f"{one.forgetting[name]:+.4f}" if name in one.forgetting else "" for name in heldout),
            f"{one.count:g}",
            f"{one.update_frobenius:.2f}",
        )
        for one in run.configurations()
    ]
    held = [name.replace("-", "-\n") for name in _short(heldout)]
    header = ("configuration", "rate", "score", *held, "intruders", "|update|")
    print_table(header, rows, numeric=range(1, len(header)))
    for _, row in trials[trials["error"] != ""].iterrows():
        echo(f"{row['label']}, seed {row['seed']}: failed: {row['error']}", err=True)
    chosen = trials[trials["chosen"].fillna(False).astype(bool)]
    if len(chosen):
        first = chosen.iloc[0]
        echo(
            f"score: {first['task_metric']} on {first['task_examples']} test examples of {first['task']}; held-out "
            f"columns: forgetting (loss of the tuned minus the base model); intruders of {first['matrices']} matrices, "
            f"k = {first['k']}, epsilon = {first['epsilon']:g}"
        )
    print_account(run.table("row_account"))
    echo(f"Report: {run.report.resolve()}")


def print_account(account: "pd.DataFrame", *, err: bool = False) -> None:
    """What became of the rows of every task, and where much was lost."""
    table = account.drop(columns="trial").drop_duplicates()
    for _, row in table.iterrows():
        parts = [f"{row['used']} of {row['read']} rows used"]
        parts += [f"{row['set_aside']} set aside"] if row["set_aside"] else []
        parts += [str(row["reasons"])] if row["reasons"] else []
        parts += (
            [f"{row['texts_cut']} of {row['texts']} texts cut"] if str(row["texts_cut"]) not in ("0", "<NA>") else []
        )
        parts += [f"{row['classes']} labels"] if str(row["classes"]) != "<NA>" else []
        parts += [f"{row['overlap']} also trained on"] if str(row["overlap"]) not in ("0", "<NA>") else []
        echo(f"{row['task']}, {row['split']}: {'; '.join(parts)}", err=err)
    for sentence in dict.fromkeys(table["warning"]):
        if sentence:
            echo(f"Warning: {sentence}", err=True)


def _short(names: Sequence[str]) -> list[str]:
    """Names of held-out tasks for a narrow column: the task where that is unique, else the measure."""
    tasks = [name.rpartition(":")[0] or name for name in names]
    measures = [name.rpartition(":")[2] for name in names]
    return next((short for short in (tasks, measures) if len(set(short)) == len(short)), list(names))
