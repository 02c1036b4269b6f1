"""`spectra study`: a sweep, interventions on its trials, and answers to questions that are fixed before it runs."""

import os
import sys
from pathlib import Path
from typing import Any

import click

import spectra
from spectra.cli.option_types import Shard
from spectra.cli.options import presets_of, quiet_option, trust_option
from spectra.cli.sweep import cluster_options
from spectra.cli.terminal import echo
from spectra.records.provenance import command_line


@click.command(epilog="Example:  spectra study --preset study-tiny -o runs/study-tiny")
@click.argument("spec_and_axes", nargs=-1, metavar="[SPEC] [AXIS=VALUES...]")
@click.option(
    "--preset",
    shell_complete=presets_of("study"),
    help="Study that comes with the package, when no SPEC is given.",
)
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder.  [default: runs/NAME]")
@click.option(
    "--plan", "plan_only", is_flag=True, help="Print the trials, the questions and what they cost; run nothing."
)
@click.option("--shard", type=Shard(), help="Do the i-th of n shares of the trials, for job arrays.")
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes.  [default: one per GPU, or one]")
@cluster_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
@trust_option
@quiet_option
def command(
    spec_and_axes: tuple[str, ...],
    preset: str | None,
    out: Path | None,
    plan_only: bool,
    shard: tuple[int, int] | None,
    workers: int | None,
    ray: str | None,
    as_json: bool,
    quiet: bool,
    **cluster: Any,
) -> None:
    """Answer five questions on intruder dimensions by a sweep with seeds and by interventions on what it trained.

    SPEC is a YAML file: the fields of a sweep, and the field study with its questions and rules. They are written into
    the run folder before anything runs, and another study is refused there. Finished work is never done again: the
    same command goes on where it was stopped. The exit code is 1 if the study is not complete.
    """
    if plan_only:
        # Read when the libraries of the hub are imported: a plan asks nobody, and so it answers at once.
        os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
        if not quiet:
            echo("Planning offline: nothing is fetched, converted or written.", err=True)
    from spectra.cli.study_output import print_study, print_study_plan
    from spectra.cli.study_progress import study_progress
    from spectra.study import read_study, study_presets

    source = next((word for word in spec_and_axes[:1] if "=" not in word), preset)
    if source is None:
        raise click.UsageError(f"Name a SPEC, or one of the presets {', '.join(study_presets())} with --preset.")
    specification = read_study(source, [word for word in spec_and_axes if word != source])
    folder = out or Path("runs") / Path(source).stem
    if plan_only:
        print_study_plan(specification, folder, as_json=as_json)
        return
    with study_progress(specification, folder, shard, quiet=quiet) as (on_event, on_progress):
        study = spectra.run_study(
            specification,
            folder,
            shard=shard or (1, 1),
            executor="ray" if ray else "local",
            workers=workers,
            ray=ray or "auto",
            **cluster,
            on_event=on_event,
            on_progress=on_progress,
            command=command_line(),
        )
    print_study(study, as_json=as_json)
    if study.missing and shard is None:
        sys.exit(1)
