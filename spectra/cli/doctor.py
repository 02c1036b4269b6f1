"""`spectra doctor`: versions, devices, threads, cache, hub, optional packages."""

import json
from dataclasses import asdict

import click

from spectra.cli.terminal import echo


@click.command(epilog="Example:  spectra doctor --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def command(as_json: bool) -> None:
    """Show what this installation can use. Nothing is downloaded and nothing is changed."""
    from spectra.cli.doctor_output import print_environment
    from spectra.environment import environment

    found = environment()
    if as_json:
        echo(json.dumps(asdict(found), indent=2))
    else:
        print_environment(found)
