"""From measured points to the rows and contrasts of a record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from spectra.forgetting import Scores
from spectra.interventions.arms import INTRUDERS, Arm
from spectra.interventions.intervention_run import Contrast, InterventionRow
from spectra.interventions.points import Point
from spectra.interventions.verdict import Evidence
from spectra.statistics.contrast import Estimate, area, at_equal_score, losses_with_replicates

State = tuple[str, float]  # arm and lambda; at lambda = 1 every arm is the tuned model


@dataclass(frozen=True, eq=False)
class Measured:
    """All that was measured of one checkpoint.

    Attributes:
        labels: `trial` and `checkpoint` of every row.
        arms: By name, the intruders first.
        base: The untouched base.
        points: The tuned model by arm and lambda, the same point at lambda = 1 for every arm.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
        level: Of the intervals.
    """

    labels: Mapping[str, str]
    arms: Mapping[str, Arm]
    base: Point
    points: Mapping[State, Point]
    seed: int
    resamples: int
    level: float

    def tables(self) -> tuple[tuple[InterventionRow, ...], tuple[Contrast, ...]]:
        """All rows and all contrasts."""
        own = self._own()
        rows: list[InterventionRow] = []
        contrasts: list[Contrast] = []
        for name, base in self.base.held_out.items():
            scores = {state: point.held_out[name] for state, point in self.points.items()}
            losses = self._losses([base, *scores.values()], self.seed)
            forgotten = dict(zip(scores, (losses[:, 1:] - losses[:, :1]).T, strict=True))
            rows += [self._row(state, base, one, forgotten, own) for state, one in scores.items()]
            contrasts += [
                self._contrast(control, base, factors, forgotten, own)
                for control in self.arms
                if control != INTRUDERS and (factors := self._shared_factors(control))
            ]
        return tuple(rows), tuple(contrasts)

    def _own(self) -> "dict[State, tuple[Scores, Float[np.ndarray, ' replicates']]]":
        """Scores and resampled losses on the task of its own; empty where there is none."""
        scores = {state: point.own for state, point in self.points.items() if point.own is not None}
        if not scores:
            return {}
        losses = self._losses(list(scores.values()), self.seed + 1)  # other examples, other draws
        return {state: (one, losses[:, number]) for number, (state, one) in enumerate(scores.items())}

    def _losses(self, scores: Sequence[Scores], seed: int) -> Float[np.ndarray, "replicates points"]:
        return losses_with_replicates(scores, seed=seed, resamples=self.resamples)

    def _estimate(self, replicates: Float[np.ndarray, " replicates"]) -> Estimate:
        """Row 0 is the measured value."""
        return Estimate.of(float(replicates[0]), replicates[1:], self.level)

    def _row(
        self, state: State, base: Scores, scores: Scores, forgotten: Mapping[State, Any], own: Mapping[State, Any]
    ) -> InterventionRow:
        name, factor = state
        arm, unedited = self.arms[name], (name, 1.0)
        lost = self._estimate(forgotten[state])
        change = self._estimate(forgotten[state] - forgotten[unedited])
        return InterventionRow(
            trial=self.labels["trial"],
            checkpoint=self.labels["checkpoint"],
            arm=name,
            factor=factor,
            edited_matrices=arm.matrices,
            directions=arm.directions,
            edit_norm=arm.edit_norm(factor),
            update_norm=arm.update_norm(factor),
            update_share=arm.update_norm(factor) / arm.update_norm(1.0),
            heldout=base.task,
            metric=base.metric,
            unit=base.unit,
            n=len(base.values),
            base=base.loss,
            tuned=scores.loss,
            forgetting=lost.value,
            low=lost.low,
            high=lost.high,
            change=change.value,
            change_low=change.low,
            change_high=change.high,
            score_name=scores.score_name,
            score=scores.score,
            **self._own_cells(state, own),
        )

    def _own_cells(self, state: State, own: Mapping[State, Any]) -> dict[str, Any]:
        """The columns of the task; a score is higher where its loss is lower."""
        if not own:
            return {}
        scores, losses = own[state]
        change = self._estimate(own[state[0], 1.0][1] - losses)
        return {
            "task": scores.task,
            "task_metric": scores.score_name,
            "task_n": len(scores.values),
            "task_score": scores.score,
            "task_change": change.value,
            "task_change_low": change.low,
            "task_change_high": change.high,
        }

    def _shared_factors(self, control: str) -> list[float]:
        """Increasing lambdas up to 1 at which both arms are measured; empty if they span nothing."""
        both = sorted(
            {f for arm, f in self.points if arm == control} & {f for arm, f in self.points if arm == INTRUDERS}
        )
        reduced = [factor for factor in both if factor <= 1]
        return reduced if len(reduced) > 1 else []

    def _contrast(
        self,
        control: str,
        base: Scores,
        factors: Sequence[float],
        forgotten: Mapping[State, Any],
        own: Mapping[State, Any],
    ) -> Contrast:
        def curve(arm: str, of: Callable[[State], Any]) -> Float[np.ndarray, "replicates points"]:
            return np.stack([of((arm, factor)) for factor in factors], axis=1)

        at = np.array(factors)
        theirs, mine = (curve(arm, forgotten.__getitem__) for arm in (control, INTRUDERS))
        task_area = equal_score = None
        if own:
            task = tuple(curve(arm, lambda state: own[state][1]) for arm in (control, INTRUDERS))
            task_area = self._estimate(area(at, task[0] - task[1]))
            equal_score = self._estimate(at_equal_score((task[0], task[1]), (theirs, mine)))
        evidence = Evidence(
            heldout=base.task,
            control=control,
            unit=base.unit,
            n=len(base.values),
            forgotten=self._estimate(forgotten[INTRUDERS, 1.0]),
            area=self._estimate(area(at, theirs - mine)),
            from_factor=factors[0],
            task_area=task_area,
            equal_score=equal_score,
            level=self.level,
        )
        return _contrast(self.labels, evidence, next(iter(own.values()))[0] if own else None)


def _contrast(labels: Mapping[str, str], evidence: Evidence, own: Scores | None) -> Contrast:
    task: dict[str, Any] = {}
    if own is not None and evidence.task_area is not None and evidence.equal_score is not None:
        task = {
            "task": own.task,
            "task_n": len(own.values),
            "task_area": evidence.task_area.value,
            "task_low": evidence.task_area.low,
            "task_high": evidence.task_area.high,
            "equal_score": evidence.equal_score.value,
            "equal_score_low": evidence.equal_score.low,
            "equal_score_high": evidence.equal_score.high,
        }
    return Contrast(
        trial=labels["trial"],
        checkpoint=labels["checkpoint"],
        control=evidence.control,
        heldout=evidence.heldout,
        unit=evidence.unit,
        n=evidence.n,
        from_factor=evidence.from_factor,
        forgetting_area=evidence.area.value,
        forgetting_low=evidence.area.low,
        forgetting_high=evidence.area.high,
        verdict=evidence.verdict,
        sentence=evidence.sentence,
        **task,
    )
