"""Printing what files of others say: escape sequences are shown, never sent to the terminal."""

import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from spectra.errors import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment
    from rich.table import Table

WIDTH = 80
ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"
CUT = "(The table was cut to the width of the terminal: widen it, or use --json or --csv.)"


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text; every message and every result of a command goes through here or through `console`."""
    click.echo(visible(str(text)), err=err, nl=nl)


def tell(line: str) -> None:
    """Print a line of progress on stderr."""
    echo(line, err=True)


def warn(warnings: Iterable[str]) -> None:
    """Print each warning as a line on stderr."""
    for warning in warnings:
        echo(f"Warning: {warning}", err=True)


def console(*, width: int | None = None, stderr: bool = False) -> "Console":
    """A console for tables, at most 80 columns wide unless `width` says otherwise."""
    from rich.console import Console
    from rich.table import Table

    class VisibleConsole(Console):
        """A console that shows escape sequences in texts; those of its own styles are no texts."""

        def render(self, renderable: "RenderableType", options: "ConsoleOptions | None" = None) -> "Iterable[Segment]":
            """The segments of a renderable, their texts made harmless."""
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=visible(segment.text))

        def print(self, *objects: Any, **options: Any) -> None:
            """Print, and say so where a table had to be cut to fit."""
            super().print(*objects, **options)
            if any(isinstance(one, Table) and _is_cut(self, one) for one in objects):
                super().print(CUT, markup=False)

    return VisibleConsole(width=width, stderr=stderr, highlight=False)


def _is_cut(console: "Console", table: "Table") -> bool:
    """Whether rich shortened a cell: it ends such a cell in an ellipsis."""
    drawn = sum(segment.text.count(ELLIPSIS) for line in console.render_lines(table, pad=False) for segment in line)
    own = sum(str(cell).count(ELLIPSIS) for column in table.columns for cell in column.cells)
    return drawn > own


def table_width() -> int:
    """Columns that a table may take here."""
    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
