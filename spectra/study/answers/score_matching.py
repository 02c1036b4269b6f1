"""Trials beside another configuration at equal score, or at equal norm."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

MATCHED = {"score": "at equal validation score", "norm": "at equal norm of the update"}


def interpolated(
    trial: Mapping[Any, Any], beside: pd.DataFrame, kind: str, figures: Sequence[str], what: str = "full fine-tuning"
) -> dict[str, Any]:
    """Figures of another configuration where it has a trial's score or norm, between neighbouring learning rates.

    w = (at - x_i) / (x_{i+1} - x_i),   figure = (1 - w) figure_i + w figure_{i+1},  for the first i, by learning rate,
    with `at` between x_i and x_{i+1}. Nothing is extrapolated.

    Args:
        trial: Its validation_score and update_relative.
        beside: Trials of the other configuration and of the same seed, by learning rate.
        kind: What is equal: "score" or "norm".
        figures: Columns.
        what: The other configuration in words.

    Returns:
        The figures with the prefix "full_", the learning rates that they lie between, and the reason why there are
        none, or "".
    """
    [at] = _measure(trial["validation_score"], trial["update_relative"], kind).tolist()
    x = _measure(beside["validation_score"], beside["update_relative"], kind)
    values_of = {name: beside[name].to_numpy(dtype=float, na_value=np.nan) for name in figures}
    rates = beside["learning_rate"].to_numpy(dtype=float)
    if not np.isfinite(at) or not len(x):
        return {"at": None, "reason": f"there is no {what} of this seed that learnt"}
    for left in range(max(len(x) - 1, 1)):
        right = min(left + 1, len(x) - 1)
        low, high = sorted((x[left], x[right]))
        if low <= at <= high:
            w = 0.0 if low == high else float((at - x[left]) / (x[right] - x[left]))
            found = {f"full_{name}": (1 - w) * of[left] + w * of[right] for name, of in values_of.items()}
            return {"at": at, "left_rate": rates[left], "right_rate": rates[right], "reason": "", **found}
    side = "lower" if at < x.min() else "higher"
    measured = "validation score" if kind == "score" else "norm"
    return {"at": at, "reason": f"its {measured} is {side} than that of {what} at any learning rate"}


def _measure(score: Any, norm: Any, kind: str) -> np.ndarray:
    """What is matched, of one trial or of several; the log of no update is minus infinity."""
    if kind == "score":
        return np.atleast_1d(np.asarray(score, dtype=float))
    with np.errstate(divide="ignore"):
        return np.atleast_1d(np.log(np.asarray(norm, dtype=float)))
