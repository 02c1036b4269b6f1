"""`spectra status`: what a run has done, what failed and why, what is left."""

from pathlib import Path

import click


@click.command(epilog="Example:  spectra status runs/demo")
@click.argument("run", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(run: Path, as_json: bool) -> None:
    """Show where every trial of a run folder stands; it may be running at the same time."""
    from spectra.cli.sweep_output import print_status
    from spectra.runs import Run

    print_status(Run.open(run), as_json=as_json)
