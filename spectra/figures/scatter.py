"""Points with intervals: forgetting against the task score or against a spectral measure."""

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from spectra.figures.style import COLUMN, full_labels, legend_below, looks, new_figure, print_style
from spectra.records.looks import AXES

if TYPE_CHECKING:
    import pandas as pd


def forgetting_scatter(table: "pd.DataFrame", *, x: str = "count", unit: str = "nats", title: str = "") -> Figure:
    """Forgetting of every trial, with its 95 % interval, against another column.

    Args:
        table: One row per trial, with columns label, forgetting, low, high and `x`; a column `method` marks full
            fine-tuning.
        x: The column on the horizontal axis.
        unit: Unit of forgetting.
        title: What stands above the figure.

    Source: Shuttleworth et al., arXiv:2410.21228, Figure 5, for x = "count".
        Difference: intervals over examples are drawn.
    """
    look = looks(list(table["label"]), full_labels(table))
    with print_style():
        figure, axes = new_figure(COLUMN, 3.1)
        axes.axhline(0, color="black", linewidth=0.8, linestyle=":")
        for label, rows in table.groupby("label", sort=False):
            middle = rows["forgetting"].to_numpy(dtype=float)
            below = middle - rows["low"].to_numpy(dtype=float)
            above = rows["high"].to_numpy(dtype=float) - middle
            style = look[str(label)]
            axes.errorbar(
                rows[x].to_numpy(dtype=float),
                middle,
                yerr=(below, above),
                fmt=style["marker"],
                color=style["color"],
                elinewidth=0.8,
                label=str(label),
            )
        axes.set(xlabel=AXES.get(x, x), ylabel=f"Forgetting ({unit})", title=title)
        legend_below(figure, axes)
        return figure
