"""`spectra plugins`: every table that can be extended, with its entries and where they come from."""

from typing import Any

import click

from spectra.cli.destinations import WritingCommand
from spectra.cli.output import Output, output_options


@click.command(cls=WritingCommand, epilog="Example:  spectra --plugin my_metric.py plugins")
@output_options("entry", json_help="Print one JSON object per entry.")
def command(output: Output) -> None:
    """List what can be extended, and what an installed package or --plugin has added.

    Each line is one entry of a table: its name, where it comes from, and what it is.
    """
    rows = _rows()
    output.emit(text=lambda: _print(rows), whole=lambda: rows, rows=lambda: rows)


def _rows() -> list[dict[str, Any]]:
    from spectra.data.load import TASKS
    from spectra.forgetting.catalogue import HELD_OUT_MEASURES
    from spectra.records.catalogue import GROUPS, choices
    from spectra.training.adapt import METHODS
    from spectra.weights.formats.table import FORMATS

    tables = (GROUPS, HELD_OUT_MEASURES, METHODS, FORMATS, TASKS)
    return [
        {"table": table.group, "name": name, "from": table.origins[name], "documentation": entry.documentation}
        for table in tables
        for name, entry in table.items()
        if table is not GROUPS or name in choices()
    ]


def _print(rows: list[dict[str, Any]]) -> None:
    for table in dict.fromkeys(row["table"] for row in rows):
        click.echo(f"{table}")
        for row in rows:
            if row["table"] == table:
                origin = "" if row["from"] == "spectra" else f"  ({row['from']})"
                click.echo(f"  {row['name']:18} {row['documentation']}{origin}")
