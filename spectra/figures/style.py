"""The look of all figures: text at print size, colours that the colour-blind tell apart, vector output."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spectra.records.looks import COLOURS, FULL_COLOUR

# Widths of one and two columns of a paper, in inches.
COLUMN = 3.4
PAGE = 7.0
SEQUENTIAL = "viridis"

MARKERS = ("s", "^", "D", "P", "v", "X", "<")
DASHES: tuple[Any, ...] = ("--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))

RULES: Mapping[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 5,
    "figure.constrained_layout.use": True,
    # Text stays text in vector files, so that a reader can search it.
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "savefig.dpi": 300,
}


@contextmanager
def print_style() -> Iterator[None]:
    """Apply the rules while a figure is made or saved; the caller's settings come back afterwards."""
    with mpl.rc_context(dict(RULES)):  # type: ignore[arg-type]
        yield


def new_figure(width: float = COLUMN, height: float = 2.5) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes, in inches. It belongs to no window, so nothing has to close it."""
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def legend_below(figure: Figure, axes: Axes) -> None:
    """The legend under the plot, where it covers no data."""
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2)


def looks(labels: Sequence[str], full: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Colour, marker and line pattern of every label, in order of appearance.

    Args:
        labels: All labels of a figure; repeats are dropped.
        full: Those that name full fine-tuning.
    """
    chosen: dict[str, dict[str, Any]] = {}
    position = 0
    for label in dict.fromkeys(labels):
        if label in full:
            chosen[label] = {"color": FULL_COLOUR, "marker": "o", "linestyle": "-"}
            continue
        at = position % len(COLOURS)
        chosen[label] = {"color": COLOURS[at], "marker": MARKERS[at], "linestyle": DASHES[at]}
        position += 1
    return chosen


def full_labels(table: Any) -> list[str]:
    """The labels of fully fine-tuned trials of a table, where it has a column `method`."""
    return sorted(set(table.loc[table["method"] == "full", "label"])) if "method" in table else []
