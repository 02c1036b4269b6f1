"""Question e: what the advised ranks and alphas save beside the best adapter of the sweep."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from spectra.records.pairs import adapter_rows
from spectra.statistics.over_units import mean_over_units
from spectra.study.comparison import Comparison, Verdict, comparison
from spectra.study.tables import unit_of
from spectra.sweep.trial.learning_rate_selection import best_configuration

PARAMETERS = "trained parameters of the advised adapter minus the best one"
SCORE = "test score of the advised adapter minus the best one"
COLUMNS = {"task_score": SCORE, "count": "intruder dimensions of the advised adapter minus the best one"}


@dataclass(frozen=True, eq=False)
class Advised:
    """The advised adapter, and the best one of the sweep.

    Attributes:
        trials: Trials of the advised adapter, one per seed.
        forgetting: Their forgetting.
    """

    trials: pd.DataFrame
    forgetting: pd.DataFrame


def saving_comparisons(
    advised: Advised | None, trials: pd.DataFrame, forgetting: pd.DataFrame, *, level: float, reason: str = ""
) -> list[Comparison]:
    """Differences between advised and best adapter of the same seed; parameters and score decide.

    Args:
        advised: The advised trials; None where there are none.
        trials: The trials table of the sweep.
        forgetting: Its forgetting table.
        level: Of the intervals.
        reason: Why there are no advised trials.
    """
    best = best_configuration(adapter_rows(trials))
    if advised is None or best.empty or advised.trials.empty:
        nothing = mean_over_units(np.empty(0), level=level)
        note = reason or "there is no advised adapter, or none to hold it against"
        return [
            comparison("e", name, nothing, level=level, unit="", seeds=0, settings=0, decides=True, note=note)
            for name in (PARAMETERS, SCORE)
        ]
    done = best_configuration(advised.trials)
    pairs = done.merge(best, on="seed", suffixes=("", "_best"))
    over = f"beside {best['label'].iloc[0]}"
    share = (pairs["trainable_parameters"] / pairs["trainable_parameters_best"] - 1).to_numpy(dtype=float)
    found = [
        Comparison(
            "e", PARAMETERS, over, "", _first(share), _first(share), _first(share), level, None, "of the best one's",
            len(pairs), 1, None, decides=True, expected=-1,
        )
    ]  # fmt: skip
    for column, name in COLUMNS.items():
        both = pairs[[column, f"{column}_best"]].dropna()
        counts = column == "count" and len(both) > 0
        least = float(np.sqrt(both.to_numpy(dtype=float).sum() + len(both))) / len(both) if counts else 0.0
        mean = mean_over_units(
            (both[column] - both[f"{column}_best"]).to_numpy(dtype=float), level=level, least_error=least
        )
        unit = "intruder dimensions" if counts else str(done["task_metric"].iloc[0])
        found.append(
            comparison(
                "e",
                name,
                mean,
                level=level,
                unit=unit,
                seeds=len(both),
                settings=1,
                over=over,
                decides=column == "task_score",
            )
        )
    for heldout in dict.fromkeys(forgetting["heldout"]):
        lost = [
            table[table["heldout"] == heldout].set_index("trial")["forgetting"]
            for table in (advised.forgetting, forgetting)
        ]
        difference = (pairs["trial"].map(lost[0]) - pairs["trial_best"].map(lost[1])).dropna()
        found.append(
            comparison(
                "e", "forgetting of the advised adapter minus the best one",
                mean_over_units(difference.to_numpy(dtype=float), level=level), level=level,
                unit=unit_of(forgetting, str(heldout)), seeds=len(difference), settings=1, over=over,
                heldout=str(heldout),
            )
        )  # fmt: skip
    return found


def saving_verdict(comparisons: list[Comparison], margin: float) -> Verdict:
    """Fewer parameters, and a score that is worse by no more than the margin."""
    by_name = {one.name: one for one in comparisons}
    saved, score = by_name[PARAMETERS], by_name[SCORE]
    if saved.value is None or score.low is None or score.high is None:
        return "not enough settings"
    if saved.value >= 0 or score.high < -margin:
        return "contradicted"
    return "supported" if score.low >= -margin else "not distinguishable"


def _first(values: np.ndarray) -> float | None:
    """The number of trained parameters does not depend on the seed."""
    return float(values[0]) if len(values) else None
