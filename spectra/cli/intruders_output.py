"""How a scan reads on a terminal: at most 80 columns, what matters first."""

from typing import TYPE_CHECKING

from spectra.cli.terminal import console, echo, table_width

if TYPE_CHECKING:
    from spectra.records import IntruderScan, MatrixScan

SHOWN = 20


def print_scans(scans: "list[IntruderScan]") -> None:
    """One scan after the other."""
    for scan in scans:
        print_scan(scan)


def print_scan(scan: "IntruderScan") -> None:
    """The matrices that hold intruders, most first, and the total in words."""
    from rich.table import Table

    shown = console(width=table_width())
    shown.print(f"[bold]{_plain(scan.checkpoint)}[/bold] against {_plain(scan.base)}")
    holding = sorted((m for m in scan.matrices if m.count), key=lambda m: (-m.count, -m.energy_share))
    if holding:
        table = Table(box=None, pad_edge=False)
        table.add_column("matrix", overflow="fold", ratio=1)
        for heading in ("shape", "count", "energy", "min |cos|"):
            table.add_column(heading, justify="right", no_wrap=True)
        for matrix in holding[:SHOWN]:
            table.add_row(*_cells(matrix))
        shown.print(table)
        if len(holding) > SHOWN:
            shown.print(f"... and {len(holding) - SHOWN} more matrices with intruders (--csv lists all)")
    echo(sentence(scan))


def sentence(scan: "IntruderScan") -> str:
    """The finding in one sentence, with the line that chance would give."""
    from spectra.records.counts import random_direction_cosine

    slots = sum(len(m.side_vectors(m.primary_side)) for m in scan.matrices)
    holding = sum(m.count > 0 for m in scan.matrices)
    noun = "intruder dimension" if scan.count == 1 else "intruder dimensions"
    text = (
        f"{scan.count} {noun} among {slots} leading vectors of {len(scan.matrices)} matrices"
        f" ({holding} of them hold any; k = {scan.k}, epsilon = {scan.epsilon:g}, {scan.side})."
    )
    if scan.matrices:
        chance = max(random_direction_cosine(m.shape[0], min(m.shape)) for m in scan.matrices)
        text += f" A random direction would show max|cos| of about {chance:.2f} or less."
    if scan.coverage is not None:
        text += f" {scan.coverage.sentence} (`spectra inspect` says why the rest is not.)"
    elif scan.skipped:
        text += f" {len(scan.skipped)} matrices were not compared (`spectra inspect` says why)."
    return text


def _cells(matrix: "MatrixScan") -> tuple[str, ...]:
    vectors = matrix.side_vectors(matrix.primary_side)
    return (
        _plain(matrix.name),
        f"{matrix.shape[0]}x{matrix.shape[1]}",
        str(matrix.count),
        f"{100 * matrix.energy_share:.1f} %",
        f"{min(vector.max_cosine for vector in vectors):.2f}",
    )


def _plain(text: str) -> str:
    """A name from outside, shown as text and not as markup."""
    from rich.markup import escape

    return escape(text)
