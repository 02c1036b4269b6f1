"""Tables and numbers for people: at most 80 columns on a terminal, whole lines in a pipe."""

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from typing import TYPE_CHECKING

from spectra.cli.terminal import console, echo, table_width

if TYPE_CHECKING:
    from rich.table import Table

NARROWEST = 16  # columns that a folded text keeps


def number(value: float | None, digits: int = 4) -> str:
    """A number in a few digits; a dash where there is none."""
    return "–" if value is None or value != value else f"{value:.{digits}g}"


def quantity(value: int | float | None, unit: str = "") -> str:
    """A count or a size with a decimal prefix; "?" where it is not known."""
    if value is None:
        return "?"
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.0f} {unit}".strip()


def minutes(seconds: float | None) -> str:
    """A duration for people; "?" where it is not known."""
    if seconds is None:
        return "?"
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def folding_table(first: str, numbers: Sequence[str] = (), texts: Sequence[str] = ()) -> "Table":
    """An empty table without rules: a first column that folds, numbers to the right, then texts that fold too."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold", ratio=1)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in texts:
        table.add_column(heading, overflow="fold", ratio=1)
    return table


def print_folding(table: "Table", *, more: int = 0, what: str = "") -> None:
    """Print such a table, and how many rows of it are not shown."""
    shown = console(width=table_width())
    shown.print(table)
    if more > 0:
        shown.print(f"... and {more} more {what}")


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: Sequence[int] | range) -> None:
    """A plain table on stdout; numbers to the right, long texts folded to the width of a terminal.

    In a pipe or a file every row is one line; where a terminal is too narrow, its lines are longer rather than columns
    lost.
    """
    cells = [[cell.split("\n") for cell in row] for row in (header, *rows)]
    widths = [max(len(line) for row in cells for line in row[column]) for column in range(len(header))]
    texts = [column for column in range(len(header)) if column not in numeric]
    excess = 1 + sum(widths) + 2 * (len(widths) - 1) - _room()
    for column in sorted(texts, key=lambda column: -widths[column]):
        narrowed = max(widths[column] - max(excess, 0), min(widths[column], NARROWEST))
        excess -= widths[column] - narrowed
        widths[column] = narrowed
    head, *body = ("\n".join(_folded(row, widths, numeric)) for row in cells)
    echo("\n".join(["", head, f" {'─' * (sum(widths) + 2 * (len(widths) - 1))}", *body, ""]))


def _room() -> int:
    """Columns that a line may have: a terminal's, or what COLUMNS says; without limit elsewhere."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return shutil.get_terminal_size().columns
    return sys.maxsize


def _folded(row: Sequence[Sequence[str]], widths: Sequence[int], numeric: Sequence[int] | range) -> Iterator[str]:
    """The lines of one row."""
    folded = [
        [line[start : start + width] for line in cell for start in range(0, max(len(line), 1), width or 1)]
        for cell, width in zip(row, widths, strict=True)
    ]
    for parts in zip_longest(*folded, fillvalue=""):
        padded = [
            part.rjust(width) if column in numeric else part.ljust(width)
            for column, (part, width) in enumerate(zip(parts, widths, strict=True))
        ]
        yield f" {'  '.join(padded)}".rstrip()
