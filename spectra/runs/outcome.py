"""The outcome of a sweep in a few lines: one per configuration at its chosen learning rate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Configuration:
    """The trials of one configuration at its chosen learning rate, over its seeds.

    Attributes:
        label: What a person calls it.
        learning_rate: The chosen one; None for a checkpoint that existed already.
        score: Mean task score; None where no task was measured.
        spread: Its standard deviation over seeds; None with one seed.
        forgetting: Mean by held-out task, of those that were measured.
        count: Mean number of intruder dimensions.
        update_frobenius: Mean ||delta_W||_F.
    """

    label: str
    learning_rate: float | None
    score: float | None
    spread: float | None
    forgetting: dict[str, float]
    count: float
    update_frobenius: float


def configurations(trials: "pd.DataFrame", forgetting: "pd.DataFrame") -> Sequence[Configuration]:
    """One entry per configuration, in the order of the trials.

    Args:
        trials: The table of trials of a run.
        forgetting: Its table of forgetting.
    """
    chosen = trials[trials["chosen"].fillna(False).astype(bool)]
    found = []
    for label, group in chosen.groupby("label", sort=False):
        lost = forgetting[forgetting["trial"].isin(group["trial"])].groupby("heldout")["forgetting"].mean()
        scores = group["task_score"]
        found.append(
            Configuration(
                label=str(label),
                learning_rate=_known(group["learning_rate"].iloc[0]),
                score=_known(scores.mean()),
                spread=_known(scores.std()) if len(scores) > 1 else None,
                forgetting={str(name): float(value) for name, value in lost.items()},
                count=float(group["count"].astype(float).mean()),
                update_frobenius=float(group["update_frobenius"].mean()),
            )
        )
    return found


def _known(value: float | None) -> float | None:
    return None if value is None or value != value else float(value)
