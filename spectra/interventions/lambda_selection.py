"""Choose lambda where a choice belongs: on validation data, by what the edits mend and what they cost."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from spectra.errors import DataError
from spectra.forgetting import HeldOut
from spectra.interventions.intervention_run import InterventionRow, InterventionRun

VALIDATION = " (validation)"


@dataclass(frozen=True)
class Choice:
    """A chosen lambda.

    Attributes:
        lam: The factor; 1 where no factor mends beyond noise without costing too much.
        arm: The arm whose curve it was chosen on: intruders, or shrink.
        most_drop: The largest loss of task score that was allowed.
        reason: Why, in one sentence.
    """

    lam: float
    arm: str
    most_drop: float
    reason: str


def held_out_validation(held_out: HeldOut) -> HeldOut:
    """A held-out task whose validation split is scored in place of its test split.

    Raises:
        DataError: If it has no split to choose on.
    """
    if held_out.data is None:
        raise DataError(f"'{held_out.name}' has no validation split of its own. Choose lambda by another task.")
    data = replace(held_out.data, test=held_out.data.validation)
    return replace(held_out, data=data, name=held_out.name + VALIDATION)


def choose_lambda(record: InterventionRun, *, arm: str = "intruders", most_drop: float = 0.01) -> Choice:
    """The factor up to 1 that mends most among those that cost little.

    gain(lambda) = mean over held-out tasks of  -change(lambda) / loss at lambda = 1
    lambda* = argmax gain  over factors < 1 with  task_change >= -most_drop  and at least one task whose interval of
              change lies below zero and none whose interval lies above;  1 where there is none

    Args:
        record: Measured on validation splits, with a task.
        arm: The curve.
        most_drop: Loss of task score (its own units) that a mended checkpoint may have.

    Raises:
        DataError: If no task was measured.

    Source: choosing on a validation split, as in Shuttleworth et al., arXiv:2410.21228, section 5 (they report several
        lambdas). Difference: a rule that may choose to change nothing.
    """
    points: dict[float, list[InterventionRow]] = {}
    for row in record.rows:
        if row.arm == arm and row.factor <= 1:
            points.setdefault(row.factor, []).append(row)
    if any(row.task_change is None for rows in points.values() for row in rows):
        raise DataError("lambda is chosen by what it costs on the task. Name the task that was tuned on.")
    gains = {factor: _gain(rows) for factor, rows in points.items() if factor < 1 and _qualifies(rows, most_drop)}
    if not gains:
        return Choice(1.0, arm, most_drop, _nothing_qualifies(points, most_drop))
    best = max(gains, key=lambda factor: (gains[factor], factor))
    cost = points[best][0].task_change or 0.0
    reason = (
        f"lambda = {best:g} lowers the held-out loss most ({100 * gains[best]:.2g} % on average) among the "
        f"{len(gains)} factors that mend beyond noise and cost at most {most_drop:g} of task score "
        f"(this one changes it by {cost:+.4f})."
    )
    return Choice(best, arm, most_drop, reason)


def _gain(rows: list[InterventionRow]) -> float:
    return sum(-row.change / (row.tuned - row.change) for row in rows) / len(rows)


def _qualifies(rows: list[InterventionRow], most_drop: float) -> bool:
    costs_little = (rows[0].task_change or 0.0) >= -most_drop
    mends = any(row.change_high is not None and row.change_high < 0 for row in rows)
    return costs_little and mends and not any(row.change_low is not None and row.change_low > 0 for row in rows)


def _nothing_qualifies(points: Mapping[float, list[InterventionRow]], most_drop: float) -> str:
    tried = ", ".join(f"{factor:g}" for factor in sorted(points) if factor < 1)
    return (
        f"No factor among {tried} lowers a held-out loss beyond noise at a cost of at most {most_drop:g} of task "
        "score, so lambda = 1: nothing is changed."
    )
