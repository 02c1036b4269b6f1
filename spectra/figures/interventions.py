"""Figures of an intervention: both curves over lambda, and forgetting against the task score."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from spectra.errors import RunError
from spectra.figures.curves import intervention_curve
from spectra.figures.style import COLUMN, legend_below, looks, new_figure, print_style
from spectra.storage.tables import read_parquet

if TYPE_CHECKING:
    import pandas as pd

TABLE = "interventions.parquet"


def intervention_figures(folder: Path) -> Iterator[tuple[str, Figure]]:
    """The figures of a folder that `spectra intervene` wrote, with their file names."""
    table = read_parquet(folder / TABLE, error=RunError)
    for number, heldout in enumerate(dict.fromkeys(table["heldout"]), start=1):
        rows = table[table["heldout"] == heldout]
        forgetting = f"Forgetting ({rows['unit'].iloc[0]})"
        score = f"Task score ({rows['task_metric'].iloc[0]})"
        yield f"intervention-{number}", intervention_curve(rows, score=score, forgetting=forgetting)
        if rows["task_score"].notna().all():
            yield f"trade-off-{number}", trade_off(rows, score=score, forgetting=forgetting)


def trade_off(rows: "pd.DataFrame", *, score: str = "Task score", forgetting: str = "Forgetting") -> Figure:
    """Forgetting against the task score, one path per arm along lambda; all paths meet at lambda = 1.

    Args:
        rows: Rows of one held-out task of the table `interventions`.
        score: Name of the score.
        forgetting: Name of the forgetting, with unit.

    Source: the "pareto curves" of the public discussion of arXiv:2410.21228.
        Difference: with the interval of forgetting at every point.
    """
    look = looks(list(rows["arm"]), ["intruders"])
    with print_style():
        figure, axes = new_figure(COLUMN, 3.4)
        for arm, points in rows.groupby("arm", sort=False):
            path = points.sort_values("factor")
            middle, low, high = (path[name].to_numpy(dtype=float) for name in ("forgetting", "low", "high"))
            colour = look[str(arm)]["color"]
            axes.errorbar(
                path["task_score"],
                path["forgetting"],
                yerr=[middle - low, high - middle],
                fmt="none",
                ecolor=colour,
                alpha=0.25,
            )
            axes.plot(path["task_score"], path["forgetting"], label=str(arm), **look[str(arm)])
        tuned = rows[rows["factor"] == 1].iloc[0]
        axes.plot(tuned["task_score"], tuned["forgetting"], marker="o", color="black", linestyle="", label="as tuned")
        axes.set(xlabel=score, ylabel=forgetting)
        legend_below(figure, axes)
        return figure
