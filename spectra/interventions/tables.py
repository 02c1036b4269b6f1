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
from spectra.statistics.contrast import area, at_equal_score, losses_with_replicates, percentile_estimate
from spectra.statistics.interval import Estimate
from spectra.statistics.mean import mean_estimates
from spectra.statistics.paired import differences

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
        changes = self._changes(own, self.seed + 1)  # other examples, other draws
        rows: list[InterventionRow] = []
        contrasts: list[Contrast] = []
        for name, base in self.base.held_out.items():
            scores = {state: point.held_out[name] for state, point in self.points.items()}
            forgotten = dict(zip(scores, self._differences([(base, one) for one in scores.values()]), strict=True))
            mended = self._changes(scores, self.seed)
            rows += [
                self._row(state, base, one, forgotten[state], mended[state], self._own_cells(state, own, changes))
                for state, one in scores.items()
            ]
            contrasts += self._contrasts(base, scores, forgotten[INTRUDERS, 1.0], own)
        return tuple(rows), tuple(contrasts)

    def _own(self) -> dict[State, Scores]:
        """Scores on the task of its own; empty where there is none."""
        return {state: point.own for state, point in self.points.items() if point.own is not None}

    def _differences(self, pairs: Sequence[tuple[Scores, Scores]], seed: int | None = None) -> list[Estimate]:
        seed = self.seed if seed is None else seed
        return differences(pairs, seed=seed, resamples=self.resamples, level=self.level)

    def _changes(self, scores: Mapping[State, Scores], seed: int) -> dict[State, Estimate]:
        """Loss of every state minus that of the tuned model: at lambda = 1 they are the same, which is no estimate."""
        edited = [state for state in scores if state[1] != 1]
        found = self._differences([(scores[arm, 1.0], scores[arm, factor]) for arm, factor in edited], seed)
        unedited = {state: Estimate(0.0, 0.0, 0.0) for state in scores if state[1] == 1}
        return {**unedited, **dict(zip(edited, found, strict=True))}

    def _row(
        self,
        state: State,
        base: Scores,
        scores: Scores,
        lost: Estimate,
        change: Estimate,
        own_cells: Mapping[str, Any],
    ) -> InterventionRow:
        name, factor = state
        arm = self.arms[name]
        (low, high), (change_low, change_high) = lost.ends, change.ends
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
            low=low,
            high=high,
            change=change.value,
            change_low=change_low,
            change_high=change_high,
            score_name=scores.score_name,
            score=scores.score,
            **own_cells,
        )

    def _own_cells(
        self, state: State, own: Mapping[State, Scores], changes: Mapping[State, Estimate]
    ) -> dict[str, Any]:
        """The columns of the task; a score is higher where its loss is lower."""
        if not own:
            return {}
        scores = own[state]
        change = changes[state].negated()
        low, high = change.ends
        return {
            "task": scores.task,
            "task_metric": scores.score_name,
            "task_n": len(scores.values),
            "task_score": scores.score,
            "task_change": change.value,
            "task_change_low": low,
            "task_change_high": high,
        }

    def _shared_factors(self, control: str) -> list[float]:
        """Increasing lambdas up to 1 at which both arms are measured; empty if they span nothing."""
        both = sorted(
            {f for arm, f in self.points if arm == control} & {f for arm, f in self.points if arm == INTRUDERS}
        )
        reduced = [factor for factor in both if factor <= 1]
        return reduced if len(reduced) > 1 else []

    def _contrasts(
        self, base: Scores, scores: Mapping[State, Scores], forgotten: Estimate, own: Mapping[State, Scores]
    ) -> list[Contrast]:
        """The intruder arm against every control on one held-out task."""
        controls = [(arm, factors) for arm in self.arms if arm != INTRUDERS and (factors := self._shared_factors(arm))]
        losses = self._replicates(scores, self.seed)
        own_losses = self._replicates(own, self.seed + 1)
        return [
            self._contrast(control, base, np.array(factors), (scores, losses), forgotten, (own, own_losses))
            for control, factors in controls
        ]

    def _replicates(self, scores: Mapping[State, Scores], seed: int) -> dict[State, Float[np.ndarray, " replicates"]]:
        """Resampled mean losses of every state."""
        if not scores:
            return {}
        losses = losses_with_replicates(list(scores.values()), seed=seed, resamples=self.resamples)
        return dict(zip(scores, losses.T, strict=True))

    def _contrast(
        self,
        control: str,
        base: Scores,
        factors: Float[np.ndarray, " points"],
        held_out: tuple[Mapping[State, Scores], Mapping[State, Any]],
        forgotten: Estimate,
        own: tuple[Mapping[State, Scores], Mapping[State, Any]],
    ) -> Contrast:
        def curve(arm: str, of: Callable[[State], Any]) -> Float[np.ndarray, "rows points"]:
            return np.stack([of((arm, factor)) for factor in factors.tolist()], axis=1)

        def area_between(scores: Mapping[State, Scores], seed: int) -> Estimate:
            """Of loss(control) - loss(intruders): a mean over examples, as each example has curves of its own."""
            theirs, mine = (curve(arm, lambda state: scores[state].values) for arm in (control, INTRUDERS))
            values = area(factors, theirs - mine)[:, None]
            weights = scores[control, 1.0].weights
            return mean_estimates(values, weights, level=self.level, seed=seed, resamples=self.resamples)[0]

        between = area_between(held_out[0], self.seed)
        task_area = equal_score = None
        if own[0]:
            task_area = area_between(own[0], self.seed + 1)
            task, lost = (
                (curve(control, losses.__getitem__), curve(INTRUDERS, losses.__getitem__))
                for losses in (own[1], held_out[1])
            )
            n = min(len(base.values), len(own[0][control, 1.0].values))
            replicates = at_equal_score(task, lost)
            equal_score = percentile_estimate(replicates, n=n, level=self.level, cannot_tell=between.cannot_tell)
        evidence = Evidence(
            heldout=base.task,
            control=control,
            unit=base.unit,
            n=len(base.values),
            forgotten=forgotten,
            area=between,
            from_factor=float(factors[0]),
            task_area=task_area,
            equal_score=equal_score,
            level=self.level,
        )
        return _contrast(self.labels, evidence, next(iter(own[0].values())) if own[0] else None)


def _contrast(labels: Mapping[str, str], evidence: Evidence, own: Scores | None) -> Contrast:
    task: dict[str, Any] = {}
    if own is not None and evidence.task_area is not None and evidence.equal_score is not None:
        task = {
            "task": own.task,
            "task_n": len(own.values),
            **_figures(evidence.task_area, "task_area", "task"),
            **_figures(evidence.equal_score, "equal_score", "equal_score"),
        }
    return Contrast(
        trial=labels["trial"],
        checkpoint=labels["checkpoint"],
        control=evidence.control,
        heldout=evidence.heldout,
        unit=evidence.unit,
        n=evidence.n,
        from_factor=evidence.from_factor,
        **_figures(evidence.area, "forgetting_area", "forgetting"),
        verdict=evidence.verdict,
        sentence=evidence.sentence,
        **task,
    )


def _figures(estimate: Estimate, name: str, ends: str) -> dict[str, Any]:
    """The three columns of an estimate."""
    low, high = estimate.ends
    return {name: estimate.value, f"{ends}_low": low, f"{ends}_high": high}
