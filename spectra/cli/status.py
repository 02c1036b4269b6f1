"""`spectra status`: what a run has done, what failed and why, what is left."""

from pathlib import Path

import click

from spectra.cli.destinations import WritingCommand
from spectra.cli.output import Output, output_options


@click.command(cls=WritingCommand, epilog="Example:  spectra status runs/demo")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@output_options("trial", json_help="Print one JSON object instead of a table.")
def command(run: Path, output: Output) -> None:
    """Show where every trial of a run folder stands; it may be running at the same time."""
    from spectra.cli.sweep_output import print_status, states
    from spectra.runs import Run

    rows = states(Run.open(run))
    output.emit(text=lambda: print_status(rows), whole=lambda: {"run": str(run), "trials": rows}, rows=lambda: rows)
