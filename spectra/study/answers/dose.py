"""Question b: how counts go with rank, alpha, learning rate and steps, everything else equal."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from spectra.study.answers.over_seeds import over_seeds
from spectra.study.comparison import Comparison
from spectra.study.tables import StudyTables

UNIT = "intruder dimensions per doubling"


@dataclass(frozen=True)
class Factor:
    """Something that a count may go with.

    Attributes:
        name: What the comparison is called.
        column: Its column.
        equal: Columns that are equal in a group of trials; rows are grouped by seed as well.
        expected: Sign of the hypothesis; 0 without one.
        chosen: Whether only trials at their chosen learning rate are compared.
    """

    name: str
    column: str
    equal: tuple[str, ...]
    expected: int = 0
    chosen: bool = False


FACTORS = (
    Factor("count with the learning rate", "learning_rate", ("label",), expected=1),
    Factor("count with the rank, alpha and learning rate equal", "rank", ("method", "alpha", "learning_rate")),
    Factor("count with the rank, alpha/rank and learning rate equal", "rank", ("method", "ratio", "learning_rate")),
    Factor("count with the rank, alpha/rank equal, at chosen learning rates", "rank", ("method", "ratio"), chosen=True),
    Factor("count with alpha, rank and learning rate equal", "alpha", ("method", "rank", "learning_rate")),
    Factor("count with alpha, rank equal, at chosen learning rates", "alpha", ("method", "rank"), chosen=True),
)


def dose_comparisons(tables: StudyTables, *, level: float) -> list[Comparison]:
    """A slope per factor; learning rate and steps decide."""
    found: list[Comparison] = []
    for factor in FACTORS:
        trials = (tables.chosen if factor.chosen else tables.used).copy()
        trials["ratio"] = trials["alpha"] / trials["rank"].astype(float)
        trials = trials[trials["count"].notna() & trials[factor.column].notna()]
        figures = _slopes(trials, factor.column, factor.equal)
        decides = {"decides": True} if factor.expected else {}
        found += over_seeds(
            "b",
            factor.name,
            figures,
            level=level,
            unit=UNIT,
            expected=factor.expected,
            each=factor.column == "learning_rate",
            **decides,
        )
    along = tables.trajectory.merge(tables.chosen[["trial", "label", "seed"]], on="trial")
    figures = _slopes(along[along["step"] > 0], "step", ("label",))
    return found + over_seeds(
        "b", "count with the number of steps, along the training", figures, level=level, unit=UNIT, expected=1,
        decides=True,
    )  # fmt: skip


def _slopes(trials: pd.DataFrame, column: str, equal: Sequence[str]) -> pd.DataFrame:
    """The least-squares slope of the count on log2 of a column, in every group of trials that are equal otherwise.

    slope = sum_i w_i c_i,   w_i = (x_i - mean) / sum_j (x_j - mean)^2;   were the counts Poisson, its variance would be
    sum_i w_i^2 (c_i + 1).
    """
    rows = []
    for key, group in trials.groupby([*equal, "seed"], dropna=False, sort=False):
        x = np.log2(group[column].to_numpy(dtype=float))
        if np.ptp(x) == 0:
            continue
        count = group["count"].to_numpy(dtype=float)
        weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
        *values, seed = key
        rows.append(
            {
                "label": ", ".join(map(str, values)),
                "seed": seed,
                "value": float(weights @ count),
                "variance": float(weights**2 @ (count + 1)),
            }
        )
    return pd.DataFrame(rows, columns=["label", "seed", "value", "variance"])
