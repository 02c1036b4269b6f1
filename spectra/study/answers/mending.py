"""Question d: whether removing intruders mends more than a norm-matched shrink at equal task score."""

import pandas as pd
from scipy.special import ndtri

from spectra.study.answers.over_seeds import over_seeds
from spectra.study.comparison import Comparison
from spectra.study.tables import StudyTables

SHRINK = "shrink"
KINDS = {
    "equal_score": ("equal_score", "equal_score_low", "equal_score_high", "at equal task score"),
    "area": ("forgetting_area", "forgetting_low", "forgetting_high", "at equal lambda"),
}


def mending_comparisons(tables: StudyTables, *, level: float, within_level: float) -> list[Comparison]:
    """Forgetting under each control minus forgetting under removal, averaged over configurations and seeds.

    Args:
        tables: Of the study.
        level: Of the intervals.
        within_level: Level of the intervals over examples that the contrasts carry.
    """
    trials = tables.used[["trial", "label", "seed"]]
    contrasts = tables.contrasts.merge(trials, on="trial")
    # One row per configuration and seed: with all trials treated, those at several learning rates are averaged.
    note = _untreated(tables)
    found: list[Comparison] = []
    for heldout in tables.heldouts:
        for control in dict.fromkeys([SHRINK, *tables.contrasts["control"]]):
            rows = contrasts[(contrasts["heldout"] == heldout) & (contrasts["control"] == control)]
            for kind, (column, low, high, words) in KINDS.items():
                decides = heldout == tables.primary and control == SHRINK and kind == "equal_score"
                figures = _figures(rows, column, low, high, within_level)
                found += over_seeds(
                    "d",
                    f"forgetting under {control} minus under removal of intruders {words}",
                    figures,
                    level=level,
                    unit=str(rows["unit"].iloc[0]) if len(rows) else "",
                    heldout=heldout,
                    expected=1,
                    each=control == SHRINK,
                    note=note if decides else "",
                    **({"decides": True} if decides else {}),
                )
    return found


def _figures(rows: pd.DataFrame, column: str, low: str, high: str, level: float) -> pd.DataFrame:
    """The contrast and the standard error over its examples, by configuration and seed."""
    width = float(ndtri((1 + level) / 2)) * 2
    known = rows.dropna(subset=[column])
    figures = known[["label", "seed"]].assign(
        value=known[column].astype(float), shared=((known[high] - known[low]) / width).astype(float).fillna(0.0)
    )
    return figures.groupby(["label", "seed"], as_index=False, sort=False).mean()


def _untreated(tables: StudyTables) -> str:
    """Which chosen trials no intervention was made on, and why."""
    rows = tables.chosen[~tables.chosen["intervention"].isin(["done"])]
    if rows.empty:
        return ""
    told = []
    for (outcome, reason), group in rows.groupby(["intervention", "intervention_reason"], sort=False):
        labels = ", ".join(dict.fromkeys(group["label"]))
        told.append(f"{labels}: {outcome or 'not treated yet'}{f', {reason}' if reason else ''}")
    return "; ".join(told)
