"""Do spectral measures rank the trials of a sweep as forgetting does, or as the task score does?

Trials that differ in their seed alone are near-copies of each other, so the bootstrap draws settings: all trials of one
configuration at one learning rate, together or not at all.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spectra.statistics.rank_correlation import rank_correlation

if TYPE_CHECKING:
    import pandas as pd

MEASURES = {
    "count": "Intruder count",
    "energy_share": "Energy share of intruders",
    "update_relative": "Relative norm of the update",
    "effective_rank": "Effective rank of the update",
}
# Who takes part in the open dispute: does the count say more than the norm, or the norm more than the count?
GIVEN = (("count", "update_relative"), ("energy_share", "update_relative"), ("update_relative", "count"))
# The test split is scored for chosen trials only; the validation split for all.
SCORE = "validation_score"


@dataclass(frozen=True)
class Association:
    """Spearman's rho between one measure and what it might go with.

    Attributes:
        target: The held-out task whose forgetting it is, or `SCORE`.
        measure: Column of the trials table.
        controlling_for: Column whose ranks are held fixed, or "" for the plain coefficient.
        trials: How many are behind it.
        settings: How many configurations at one learning rate they are of.
        rho: The coefficient; None where it is undefined.
        low: Lower end of the 95 % interval; None where there is none.
        high: Upper end of the 95 % interval.
        note: Why something is undefined, or "".
    """

    target: str
    measure: str
    controlling_for: str
    trials: int
    settings: int
    rho: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """What the interval says, or that there is none."""
        if self.low is None or self.high is None:
            return self.note
        if self.low > 0:
            return "interval above zero"
        return "interval below zero" if self.high < 0 else "interval spans zero"


def associations(trials: "pd.DataFrame", forgetting: "pd.DataFrame") -> list[Association]:
    """All rows of the statistics table: each measure with the forgetting of each held-out task, and with the score.

    Args:
        trials: The trials table; every trial with a count takes part, chosen or not.
        forgetting: The forgetting table.
    """
    rows: list[Association] = []
    for heldout in dict.fromkeys(forgetting["heldout"]):
        table = forgetting[forgetting["heldout"] == heldout][["trial", "forgetting"]].merge(trials, on="trial")
        rows += _with_every_measure(table, str(heldout), "forgetting")
    if SCORE in trials and trials[SCORE].notna().any():
        rows += _with_every_measure(trials, SCORE, SCORE)
    return rows


def _with_every_measure(table: "pd.DataFrame", target: str, column: str) -> Iterator[Association]:
    for measure in MEASURES:
        if measure in table:
            yield association(table, target, measure, column=column)
    for measure, controlling_for in GIVEN:
        if measure in table and controlling_for in table:
            yield association(table, target, measure, controlling_for=controlling_for, column=column)


def association(
    table: "pd.DataFrame", target: str, measure: str, *, controlling_for: str = "", column: str = "forgetting"
) -> Association:
    """One coefficient, from the rows in which every column it needs is present.

    Args:
        table: Columns label, learning_rate, `column`, `measure` and `controlling_for`.
        target: What `column` is called.
        measure: The spectral measure.
        controlling_for: The measure whose ranks are held fixed.
        column: What the measure might go with.
    """
    names = [measure, column, *([controlling_for] if controlling_for else [])]
    complete = table.dropna(subset=names)
    settings = complete.groupby(["label", "learning_rate"], dropna=False).ngroup().to_numpy()
    counts = (len(complete), len(set(settings)))
    constant = [name for name in names if complete[name].nunique() < 2]
    if constant and len(complete) > 1:
        what = MEASURES.get(constant[0], "the score" if constant[0] == SCORE else constant[0])
        return Association(
            target, measure, controlling_for, *counts, None, note=f"{what[0].lower()}{what[1:]} never varies"
        )
    x, y, *z = (complete[name].to_numpy(dtype=float) for name in names)
    found = rank_correlation(x, y, settings, z[0] if z else None)
    return Association(target, measure, controlling_for, *counts, found.rho, found.low, found.high, found.note)
