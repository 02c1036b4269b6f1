"""What a training run passes through: intruders and the size of the update, step by step."""

from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spectra.figures.style import COLUMN, full_labels, legend_below, looks, print_style

if TYPE_CHECKING:
    import pandas as pd


def training_trajectory(table: "pd.DataFrame") -> Figure:
    """Intruder count and relative norm of the update against the optimiser step, one line per label.

    Args:
        table: Rows of the table `trajectory`, or what `SpectraCallback.to_dataframe()` returns: columns step, count and
            update_relative, and optionally label; a column `method` marks full fine-tuning.
    """
    named = table if "label" in table else table.assign(label="this training")
    look = looks(list(named["label"]), full_labels(named))
    with print_style():
        figure = Figure(figsize=(COLUMN, 3.6))
        above, below = figure.subplots(2, 1, sharex=True)
        for label, rows in named.groupby("label", sort=False):
            ordered = rows.sort_values("step")
            above.plot(ordered["step"], ordered["count"], label=str(label), **look[str(label)])
            below.plot(ordered["step"], ordered["update_relative"], **look[str(label)])
        for axes in (above, below):
            axes.set_ylim(bottom=0)
        above.set_ylabel("Intruders (number)")
        above.yaxis.set_major_locator(MaxNLocator(integer=True))
        below.set(xlabel="Optimiser step", ylabel="‖ΔW‖ / ‖W0‖")
        if named["label"].nunique() > 1:
            legend_below(figure, above)
        return figure
