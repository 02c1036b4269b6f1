"""Matrices as colour: similarity of singular vectors, and intruders over layers and roles."""

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spectra.figures.style import COLUMN, PAGE, SEQUENTIAL, new_figure, print_style

if TYPE_CHECKING:
    import pandas as pd


def similarity_matrix(cosine: "np.ndarray", *, title: str = "") -> Figure:
    """|cosine| between leading singular vectors before and after fine-tuning.

    Args:
        cosine: Entry (i, j) is |<pre-trained vector i, tuned vector j>|, in [0, 1]; shape (base, tuned).
        title: What stands above the figure.

    Source: Shuttleworth et al., arXiv:2410.21228, Figure 3.
    """
    with print_style():
        figure, axes = new_figure(COLUMN, COLUMN * 0.85)
        axes.grid(False)
        image = axes.imshow(np.asarray(cosine, dtype=float), cmap=SEQUENTIAL, vmin=0, vmax=1, interpolation="nearest")
        figure.colorbar(image, ax=axes, label="|cosine|")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(integer=True))
        axes.set(xlabel="Tuned vector j", ylabel="Pre-trained vector i", title=title)
        return figure


def layer_map(
    matrices: "pd.DataFrame", *, value: str = "count", label: str = "Intruder dimensions", title: str = ""
) -> Figure:
    """A map of layers by roles.

    Args:
        matrices: One row per matrix of one checkpoint, with columns layer, role and `value`; matrices outside the
            blocks (no layer) are left out. Several matrices in one cell are summed.
        value: The column to colour by.
        label: What it is, with unit.
        title: What stands above the figure.
    """
    table = matrices.dropna(subset=["layer", value])
    roles = list(dict.fromkeys(table["role"]))
    grid = table.pivot_table(index="role", columns="layer", values=value, aggfunc="sum").reindex(roles)
    values = grid.to_numpy(dtype=float)
    layers = [int(layer) for layer in grid.columns]
    with print_style():
        width = min(PAGE, 1.9 + 0.17 * max(len(layers), 8))
        figure, axes = new_figure(width, 0.8 + 0.22 * max(len(roles), 4))
        axes.grid(False)
        highest = float(np.nanmax(values, initial=0.0))
        image = axes.imshow(
            values, cmap=SEQUENTIAL, aspect="auto", vmin=0, vmax=highest or 1.0, interpolation="nearest"
        )
        ticks = MaxNLocator(nbins=6, integer=np.array_equal(values, np.round(values)))
        figure.colorbar(image, ax=axes, label=label, ticks=ticks)
        stride = -(-len(layers) // 16) if layers else 1
        axes.set_xticks(range(0, len(layers), stride), [str(layer) for layer in layers[::stride]])
        axes.set_yticks(range(len(roles)), roles)
        axes.set(xlabel="Layer", ylabel="Role", title=title)
        return figure
