"""Curves: counts against the threshold, singular values, and what an intervention changes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, ScalarFormatter

from spectra.figures.style import COLUMN, full_labels, legend_below, looks, new_figure, print_style
from spectra.records.counts import EPSILONS, counts_by_epsilon, random_direction_cosine
from spectra.records.looks import COLOURS, FULL_COLOUR

if TYPE_CHECKING:
    import pandas as pd


def count_against_epsilon(
    vectors: "pd.DataFrame",
    *,
    epsilon: float = 0.5,
    shapes: Sequence[tuple[int, int]] = (),
    epsilons: Sequence[float] = EPSILONS,
) -> Figure:
    """Intruder count against the threshold, one curve per label, with the random-direction line.

    Args:
        vectors: One row per matrix and vector, with columns label, lower and upper; a column `method` marks full
            fine-tuning. A band lies between what is proven and what is possible.
        epsilon: The threshold in use, drawn as a line.
        shapes: (d_out, d_in) of the matrices; the largest |cosine| expected of a random direction is dotted in.
        epsilons: Where to count.

    Source: Shuttleworth et al., arXiv:2410.21228, Figure 4.
        Difference: the line of a random direction is added, without which the threshold has no scale.
    """
    counts = counts_by_epsilon(vectors, ["label"], epsilons)
    look = looks(list(counts["label"]), full_labels(vectors))
    with print_style():
        figure, axes = new_figure(COLUMN, 3.0)
        for label, curve in counts.groupby("label", sort=False):
            line = {key: look[str(label)][key] for key in ("color", "linestyle")}
            axes.plot(curve["epsilon"], curve["count"], label=str(label), **line)
            axes.fill_between(curve["epsilon"], curve["count"], curve["at_most"], color=line["color"], alpha=0.2, lw=0)
        axes.axvline(epsilon, color="black", linewidth=0.8)
        cosines = sorted({random_direction_cosine(d_out, min(d_out, d_in)) for d_out, d_in in shapes})
        for position, cosine in enumerate(dict.fromkeys(cosines[:1] + cosines[-1:])):
            axes.axvline(
                cosine, color="black", linestyle=":", linewidth=0.8, label=None if position else "random direction"
            )
        axes.set_yscale("symlog", linthresh=1)
        axes.set(
            xlabel="ε (largest |cosine| below which a vector counts)",
            ylabel="Intruder dimensions (number)",
            xlim=(0, 1),
        )
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(ScalarFormatter())
        legend_below(figure, axes)
        return figure


def spectrum(singular_values: Mapping[str, "np.ndarray"], *, title: str = "") -> Figure:
    """Singular values on a logarithmic scale; values of zero are left out.

    Args:
        singular_values: Decreasing singular values by name, such as "W0", "W_tuned" and "delta_W".
        title: What stands above the figure.
    """
    known = {"W0": ("#8A8A8A", "-"), "W_tuned": (COLOURS[0], "--"), "delta_W": (FULL_COLOUR, ":")}
    names = {"W0": "W0 (pre-trained)", "W_tuned": "W_tuned", "delta_W": "ΔW (update)"}
    with print_style():
        figure, axes = new_figure()
        for position, (name, values) in enumerate(singular_values.items()):
            kept = np.asarray(values, dtype=float)
            index = np.flatnonzero(kept > 0)
            colour, line = known.get(name, (COLOURS[position % len(COLOURS)], "-"))
            axes.plot(index, kept[index], color=colour, linestyle=line, label=names.get(name, name))
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set(xlabel="Index j", ylabel="Singular value", title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
        return figure


def intervention_curve(
    curve: "pd.DataFrame", *, score: str = "Task score", forgetting: str = "Forgetting (nats)"
) -> Figure:
    """What scaling an intruder's singular value does to the task score and to forgetting.

    Args:
        curve: One row per point, with columns factor (the lambda of the paper; 1 changes nothing), task_score and
            forgetting, and optionally low and high (the interval of forgetting) and arm ("intruders" or a control),
            one line each: rows of the table `interventions` of one held-out task. Without any task score only
            forgetting is drawn.
        score: Name of the score.
        forgetting: Name of the forgetting, with unit.

    Source: Shuttleworth et al., arXiv:2410.21228, Figure 6.
        Difference: control arms stand beside the intruder.
    """
    table = curve if "arm" in curve else curve.assign(arm="intruders")
    look = looks(list(table["arm"]), ["intruders"])
    scored = bool(table["task_score"].notna().any())
    with print_style():
        figure = Figure(figsize=(COLUMN, 3.8 if scored else 2.8))
        panels = figure.subplots(2 if scored else 1, 1, sharex=True, squeeze=False)[:, 0]
        above, below = panels[0], panels[-1]
        for arm, rows in table.groupby("arm", sort=False):
            ordered = rows.sort_values("factor")
            if scored:
                above.plot(ordered["factor"], ordered["task_score"], **look[str(arm)])
            below.plot(ordered["factor"], ordered["forgetting"], label=str(arm), **look[str(arm)])
            if {"low", "high"} <= set(ordered.columns):
                colour = look[str(arm)]["color"]
                low, high = (ordered[name].to_numpy(dtype=float) for name in ("low", "high"))
                below.fill_between(ordered["factor"], low, high, color=colour, alpha=0.15, lw=0)
        for axes in panels:
            axes.axvline(1, color="black", linewidth=0.8, linestyle=":")
        above.set_ylabel(score)
        below.set(xlabel="Factor on the singular value (1 = unchanged)", ylabel=forgetting)
        legend_below(figure, below)
        return figure
