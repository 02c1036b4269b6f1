"""How an extracted or resized adapter reads on a terminal."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spectra.cli.terminal import console, echo, table_width

if TYPE_CHECKING:
    from spectra.records.surgery import MeasuredLoss, Reduction

SHOWN = 20


def print_reduction(result: "Reduction") -> None:
    """The matrices that lose most, what was left behind, what was measured, and the whole in words."""
    from rich.table import Table
    from rich.text import Text

    shown = console(width=table_width())
    table = Table(box=None, pad_edge=False)
    table.add_column("matrix", overflow="fold", ratio=1)
    for heading in ("rank", "|dW|", "left out", "at least", "energy kept"):
        table.add_column(heading, justify="right", no_wrap=True)
    counts = result.count_before is not None
    if counts:
        table.add_column("intruders", justify="right", no_wrap=True)
    for one in sorted(result.matrices, key=lambda matrix: -matrix.error)[:SHOWN]:
        cells: list[str | Text] = [
            Text(one.name),
            str(one.rank) if one.rank_before is None else f"{one.rank_before} -> {one.rank}",
            f"{one.norm:.4g}",
            f"{one.error:.4g}",
            f"{one.least_error:.4g}",
            f"{100 * one.energy_kept:.4g} %",
        ]
        table.add_row(*cells, *([f"{one.count_before} -> {one.count_after}"] if counts else []))
    shown.print(table)
    if len(result.matrices) > SHOWN:
        shown.print(f"... and {len(result.matrices) - SHOWN} more matrices that lose less (--json lists all)")
    print_measured(result.measured)
    for sentence in result.sentences():
        echo(sentence)


def print_measured(measured: "Sequence[MeasuredLoss]") -> None:
    """Scores and forgetting, one row per checkpoint and task."""
    from rich.table import Table
    from rich.text import Text

    if not measured:
        return
    shown = console(width=table_width())
    table = Table(box=None, pad_edge=False)
    table.add_column("checkpoint", overflow="fold", ratio=1)
    table.add_column("task", overflow="fold")
    for heading in ("what", "value", "interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in measured:
        interval = "" if one.low is None or one.high is None else f"{one.low:+.4f} to {one.high:+.4f}"
        what = one.unit if one.what == "score" else one.what
        value = f"{one.value:.4f}" if one.what == "score" else f"{one.value:+.4f}"
        table.add_row(Text(one.checkpoint), Text(one.task), what, value, interval)
    shown.print(table)
