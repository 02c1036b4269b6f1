"""From one figure per configuration and seed to a comparison: configurations inside, seeds outside."""

from typing import Any

import numpy as np
import pandas as pd

from spectra.statistics.over_units import mean_over_units
from spectra.study.comparison import Comparison, comparison


def over_seeds(
    question: str,
    name: str,
    figures: pd.DataFrame,
    *,
    level: float,
    unit: str,
    each: bool = True,
    **more: Any,
) -> list[Comparison]:
    """The mean over configurations and then seeds, and the mean over seeds of each configuration.

    Only configurations with a figure at every seed enter the mean over all: seeds would otherwise differ in what they
    are means of.

    Args:
        question: Letter.
        name: What is compared.
        figures: Columns label, seed, value; and variance, of a value by itself where it is known (of a count, the
            count); and shared, the standard error that the values of all seeds have in common.
        level: Of the intervals.
        unit: Of the value.
        each: Whether every configuration gets a comparison of its own.
        **more: Further fields of the comparisons; those of the verdict hold for the mean over all.
    """
    decisive = {key: more.pop(key) for key in ("decides",) if key in more}
    figures = figures.dropna(subset=["value"]) if len(figures) else figures
    if figures.empty:
        empty = mean_over_units(np.empty(0), level=level)
        note = str(more.pop("note", "")) or "no two trials can be compared so"
        return [
            comparison(
                question, name, empty, level=level, unit=unit, seeds=0, settings=0, note=note, **more, **decisive
            )
        ]
    seeds = figures["seed"].nunique()
    by_label = {str(label): rows for label, rows in figures.groupby("label", sort=False)}
    whole = {label: rows for label, rows in by_label.items() if rows["seed"].nunique() == seeds}
    left = [label for label in by_label if label not in whole]
    note = str(more.pop("note", ""))
    if left:
        note = "; ".join(filter(None, [note, f"left out, for lack of some seeds: {', '.join(left)}"]))
    kept = figures[figures["label"].isin(list(whole))]
    found = [_one(question, name, kept, level=level, unit=unit, over="all", note=note, **more, **decisive)]
    if each:
        found += [
            _one(question, name, rows, level=level, unit=unit, over=label, **more) for label, rows in by_label.items()
        ]
    return found


def _one(question: str, name: str, rows: pd.DataFrame, *, level: float, unit: str, **more: Any) -> Comparison:
    means = rows.groupby("seed")["value"].mean()
    seeds, settings = len(means), rows["label"].nunique()
    least, shared = _errors(rows)
    found = mean_over_units(means.to_numpy(dtype=float), level=level, least_error=least, shared_error=shared)
    return comparison(question, name, found, level=level, unit=unit, seeds=seeds, settings=settings, **more)


def _errors(rows: pd.DataFrame) -> tuple[float, float]:
    """The standard error that a mean of counts has at least, and the one that all seeds share."""
    if rows.empty:
        return 0.0, 0.0
    least = float(np.sqrt(rows["variance"].sum())) / len(rows) if "variance" in rows else 0.0
    # The same examples stand behind all rows: their errors are taken as fully dependent, which is the widest case.
    shared = float(rows["shared"].mean()) if "shared" in rows else 0.0
    return least, shared
