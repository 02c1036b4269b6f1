"""`spectra sweep`: train, scan and measure every trial of a specification, then write tables and report."""

import os
import shlex
import sys
from pathlib import Path
from typing import Any

import click

import spectra
from spectra.cli.options import quiet_option, stacked, trust_option
from spectra.cli.terminal import echo


class Shard(click.ParamType):  # type: ignore[type-arg] # generic only in the newest versions of click
    """i/n, such as 2/8."""

    name = "i/n"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Two numbers with 1 <= i <= n."""
        part, slash, of = str(value).partition("/")
        if not (slash and part.isdecimal() and of.isdecimal() and 1 <= int(part) <= int(of)):
            self.fail(f"'{value}' is no share. Write i/n with i from 1 to n, such as 2/8.", param, ctx)
        return int(part), int(of)


def _presets(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The presets whose name begins so, for the shell; read from the files, which loads nothing."""
    folder = Path(spectra.__file__).parent / "sweep" / "presets"
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem.startswith(incomplete))


cluster_options = stacked(
    click.option("--ray", metavar="auto|ADDRESS", help="Spread the trials over a Ray cluster; ADDRESS is HOST:PORT."),
    click.option(
        "--cpus-per-trial",
        type=click.FloatRange(0, min_open=True),
        default=1.0,
        show_default=True,
        help="With --ray: CPUs, and threads, of a trial.",
    ),
    click.option(
        "--gpus-per-trial", type=click.FloatRange(0), help="With --ray.  [default: one where the cluster has GPUs]"
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
    shell_complete=_presets,
    help="Specification to use when no SPEC is given.",
)
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), help="Run folder.  [default: runs/NAME]")
@click.option("--plan", "plan_only", is_flag=True, help="Print the trials and what they cost; run nothing.")
@click.option("--shard", type=Shard(), help="Do the i-th of n shares of the trials, for job arrays.")
@click.option("--workers", type=click.IntRange(min=1), help="Worker processes.  [default: one per GPU, or one]")
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
    Finished trials are never run again: the same command goes on where it was stopped. The exit code is 1 if a trial
    failed.
    """
    if plan_only:
        # Read when the libraries of the hub are imported: a plan asks nobody, and so it answers at once.
        os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
        if not quiet:
            echo("Planning offline: nothing is fetched, converted or written.", err=True)
    from spectra.cli import sweep_output
    from spectra.cli.sweep_progress import shown_progress
    from spectra.sweep import plan, read_specification, run_sweep
    from spectra.sweep.spec.plan import share

    source = next((word for word in spec_and_axes[:1] if "=" not in word), preset)
    specification = read_specification(source, [word for word in spec_and_axes if word != source])
    folder = out or Path("runs") / Path(source).stem
    if plan_only:
        sweep_output.print_plan(specification, folder, as_json=as_json)
        return
    from spectra.report import write_report

    with shown_progress(specification, folder, shard, quiet=quiet) as on_event:
        run = run_sweep(
            specification,
            folder,
            shard=shard or (1, 1),
            executor="ray" if ray else "local",
            workers=workers,
            ray=ray or "auto",
            **cluster,
            on_event=on_event,
            command=shlex.join(["spectra", *sys.argv[1:]]),
        )
    sweep_output.print_results(run, write_report(run.path), as_json=as_json)
    asked = share(plan(specification), *(shard or (1, 1)))
    if sweep_output.failed(run, {trial.id for trial in asked}):
        sys.exit(1)
