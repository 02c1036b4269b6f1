"""`spectra plugins`: every table that can be extended, with its entries and where they come from."""

from typing import TYPE_CHECKING

import click

import spectra
from spectra.cli.destinations import WritingCommand
from spectra.cli.output import Output, output_options
from spectra.cli.terminal import echo

if TYPE_CHECKING:
    from spectra import PluginList


@click.command(cls=WritingCommand, epilog="Example:  spectra --plugin my_metric.py plugins")
@output_options("entry", json_help="Print one JSON object per entry.")
def command(output: Output) -> None:
    """List what can be extended, and what an installed package or --plugin has added.

    Each line is one entry of a table: its name, where it comes from, and what it is.
    """
    found = spectra.plugins()
    output.emit(text=lambda: print_plugins(found), whole=found.to_dict, rows=found.rows)


def print_plugins(found: "PluginList") -> None:
    """One block per table."""
    for table in dict.fromkeys(row["table"] for row in found):
        echo(table)
        for row in found:
            if row["table"] == table:
                origin = "" if row["from"] == "spectra" else f"  ({row['from']})"
                echo(f"  {row['name']:18} {row['documentation']}{origin}")
