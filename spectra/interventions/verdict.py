"""The verdict on one control: what the areas allow to be said, in one sentence."""

from dataclasses import dataclass

from spectra.interventions.intervention_run import Verdict
from spectra.statistics.interval import Estimate, interval_text

CONTROL_IN_WORDS = {
    "shrink": "shrinking the same matrices to the same norms",
    "shrink-all": "shrinking every matrix by one factor to the same norm",
    "random": "scaling as many random directions by the same factors",
    "random-matched": "an edit of the same norm in as many random directions",
    "neighbour": "scaling pre-trained neighbours by the same factors",
    "stand-in": "scaling the same positions of matrices without intruders",
}
FOUND = {
    "intruders": "scaling the intruders forgets less than ",
    "control": "scaling the intruders forgets more than ",
    "trade-off": "only one of two comparisons favours scaling the intruders over ",
    "not distinguishable": "scaling the intruders forgets neither less nor more than ",
}
# Only the norm-matched shrink answers whether intruders do more than their share of the update's size.
ATTRIBUTED = {
    "intruders": "forgetting is attributed to the intruders: ",
    "control": "forgetting is not attributed to the intruders: ",
    "trade-off": "not attributed, a trade-off: ",
    "not distinguishable": "not distinguishable: ",
}


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on, for one held-out task and one control.

    Attributes:
        heldout: The held-out task.
        control: Name of the control.
        unit: Unit of its losses.
        n: Its examples.
        forgotten: Forgetting at lambda = 1.
        area: Mean over lambda of forgetting(control) - forgetting(intruders).
        from_factor: The smallest lambda.
        task_area: Mean over lambda of task score(intruders) - task score(control); None without a task.
        equal_score: forgetting(control) - forgetting(intruders) at equal task score; None without a task.
        level: Of the intervals.
    """

    heldout: str
    control: str
    unit: str
    n: int
    forgotten: Estimate
    area: Estimate
    from_factor: float
    task_area: Estimate | None
    equal_score: Estimate | None
    level: float

    @property
    def verdict(self) -> Verdict:
        """Attributed only if both comparisons say so.

        "cannot tell": the examples hold too little information on forgetting, or on a comparison.
        "nothing forgotten": the interval of forgetting at lambda = 1 does not lie above zero.
        "intruders": for equal lambda the intruder arm forgets less, and at equal task score as well.
        "control": the control forgets less by one comparison, and the intruder arm by none.
        "trade-off": only one of the two comparisons favours the intruder arm.
        "not distinguishable": neither interval leaves zero.
        Without a task there is one comparison.
        """
        if self.forgotten.cannot_tell:
            return "cannot tell"
        if not self.forgotten.is_positive:
            return "nothing forgotten"
        comparisons = self._comparisons
        if any(one.cannot_tell for one in comparisons):
            return "cannot tell"
        if all(one.is_positive for one in comparisons):
            return "intruders"
        if any(one.is_positive for one in comparisons):
            return "trade-off"
        return "control" if any(one.is_negative for one in comparisons) else "not distinguishable"

    @property
    def sentence(self) -> str:
        """The verdict with its figures."""
        if self.verdict == "nothing forgotten":
            return (
                f"{self.heldout}: no forgetting is shown at lambda = 1, so there is nothing to attribute "
                f"({self._figure(self.forgotten)}, {self.level:.0%} interval, {self.n:,} examples)."
            )
        if self.forgotten.cannot_tell:
            return (
                f"{self.heldout}: cannot tell whether anything was forgotten at lambda = 1: "
                f"{self.forgotten.cannot_tell} ({self._figure(self.forgotten)}, {self.level:.0%} interval)."
            )
        if self.verdict == "cannot tell":
            reason = next(one.cannot_tell for one in self._comparisons if one.cannot_tell)
            opening = f"cannot tell scaling the intruders from {CONTROL_IN_WORDS[self.control]}, as {reason}"
            return self._told(opening)
        opening = FOUND[self.verdict] + CONTROL_IN_WORDS[self.control]
        if self.control == "shrink":
            opening = ATTRIBUTED[self.verdict] + opening
        return self._told(opening)

    @property
    def _comparisons(self) -> list[Estimate]:
        return [self.area] + ([self.equal_score] if self.equal_score else [])

    def _told(self, opening: str) -> str:
        """An opening with the figures of both comparisons."""
        told = [f"for equal lambda {self._figure(self.area)} (mean over lambda from {self.from_factor:g} to 1)"]
        if self.equal_score is not None:
            told.append(f"at equal task score {self._figure(self.equal_score)}")
        closing = "" if self.equal_score is not None else "; no task was given, so what the edits cost is not known"
        return (
            f"{self.heldout}: {opening}: {'; '.join(told)}; positive favours the "
            f"intruders, {self.level:.0%} intervals, {self.n:,} examples{closing}."
        )

    def _figure(self, estimate: Estimate) -> str:
        return f"{estimate.value:+.3g} {interval_text(estimate.low, estimate.high, '+.3g')} {self.unit}"
