"""Printing what files of others say: escape sequences are shown, never sent to the terminal."""

import shutil
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from spectra.errors import visible

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

WIDTH = 80


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

    class VisibleConsole(Console):
        """A console that shows escape sequences in texts; those of its own styles are no texts."""

        def render(self, renderable: "RenderableType", options: "ConsoleOptions | None" = None) -> "Iterable[Segment]":
            """The segments of a renderable, their texts made harmless."""
            for segment in super().render(renderable, options):
                yield segment if segment.control else segment._replace(text=visible(segment.text))

    return VisibleConsole(width=width, stderr=stderr, highlight=False)


def table_width() -> int:
    """Columns that a table may take here."""
    return min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)
