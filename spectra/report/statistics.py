"""Rank correlation of spectral measures with forgetting, over the trials of a sweep.

Spearman's rho with the interval of Bonett and Wright: atanh(rho) +- 1.96 * sqrt((1 + rho^2 / 2) / (n - 3)).

Source: Bonett & Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations",
    Psychometrika 65 (2000), section 2. The partial coefficient is the textbook one on ranks.
    Difference: none; below five trials, or at rho = +-1, no interval is given, because the formula has none.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

FEWEST = 5
MEASURES = {
    "count": "Intruder count",
    "energy_share": "Energy share of intruders",
    "update_relative": "Relative norm of the update",
    "effective_rank": "Effective rank of the update",
}


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho between one measure and forgetting.

    Attributes:
        heldout: The held-out task.
        measure: Column of the trials table.
        given: Column whose ranks are held fixed, or "" for the plain coefficient.
        n: Trials behind it.
        rho: The coefficient; None where it is undefined.
        low: Lower end of the 95 % interval; None where there is none.
        high: Upper end of the 95 % interval.
        note: Why something is undefined, or "".
    """

    heldout: str
    measure: str
    given: str
    n: int
    rho: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""


def correlations(trials: "pd.DataFrame", forgetting: "pd.DataFrame") -> list[RankCorrelation]:
    """All coefficients of the statistics table: each measure with the forgetting of each held-out task.

    Args:
        trials: The trials table; every trial with a count takes part, chosen or not.
        forgetting: The forgetting table.
    """
    rows = []
    for heldout in dict.fromkeys(forgetting["heldout"]):
        table = forgetting[forgetting["heldout"] == heldout][["trial", "forgetting"]].merge(trials, on="trial")
        rows += [correlation(table, str(heldout), measure) for measure in MEASURES if measure in table]
        rows.append(correlation(table, str(heldout), "count", given="update_relative"))
    return rows


def correlation(table: "pd.DataFrame", heldout: str, measure: str, given: str = "") -> RankCorrelation:
    """One coefficient, from the rows in which every column it needs is present."""
    columns = ["forgetting", measure, *([given] if given else [])]
    complete = table[columns].dropna().astype(float)
    n = len(complete)
    constant = [column for column in columns if complete[column].nunique() < 2]
    if n < 3 or constant:
        reason = (
            f"{n} trials are too few" if n < 3 else f"{MEASURES.get(constant[0], constant[0]).lower()} never varies"
        )
        return RankCorrelation(heldout, measure, given, n, None, note=reason)
    rho = spearman(complete[measure].to_numpy(), complete["forgetting"].to_numpy())
    if given:
        with_given = spearman(complete[measure].to_numpy(), complete[given].to_numpy())
        given_forgetting = spearman(complete[given].to_numpy(), complete["forgetting"].to_numpy())
        partial = partial_correlation(rho, with_given, given_forgetting)
        if partial is None:
            return RankCorrelation(heldout, measure, given, n, None, note="the two measures rank the trials alike")
        rho = partial
    low, high, note = rho_interval(rho, n - (1 if given else 0))
    return RankCorrelation(heldout, measure, given, n, rho, low, high, note)


def spearman(first: "np.ndarray", second: "np.ndarray") -> float:
    """Pearson's correlation of the ranks; ties share their mean rank."""
    from scipy.stats import rankdata

    rho = float(np.corrcoef(rankdata(first), rankdata(second))[0, 1])
    # Rounding may leave a perfect ranking a hair off one.
    return float(np.sign(rho)) if abs(rho) > 1 - 1e-12 else rho


def partial_correlation(xy: float, xz: float, yz: float) -> float | None:
    """Correlation of x and y with z held fixed; None where z determines x or y."""
    remaining = (1 - xz**2) * (1 - yz**2)
    return None if remaining < 1e-12 else float(np.clip((xy - xz * yz) / math.sqrt(remaining), -1.0, 1.0))


def rho_interval(rho: float, n: int) -> tuple[float | None, float | None, str]:
    """The 95 % interval of a rank correlation over n independent pairs, and why there is none."""
    if n < FEWEST:
        return None, None, f"no interval below {FEWEST} trials"
    if abs(rho) == 1:
        return None, None, "no interval for a perfect ranking"
    half = 1.959964 * math.sqrt((1 + rho**2 / 2) / (n - 3))
    return math.tanh(math.atanh(rho) - half), math.tanh(math.atanh(rho) + half), ""
