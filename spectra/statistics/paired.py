"""Forgetting: tuned minus base, paired by example, with an interval and a sentence that keeps to it."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from spectra.errors import DataError
from spectra.statistics.information import few_examples_warning
from spectra.statistics.interval import Estimate, interval_text, stored_end
from spectra.statistics.mean import mean_estimates
from spectra.statistics.proportions import is_binary, paired_proportions
from spectra.statistics.resampling import RESAMPLES
from spectra.statistics.scores import Scores


@dataclass(frozen=True)
class Forgetting:
    """What a tuned model lost on one held-out task.

    Where `cannot_tell` names a reason, the interval contains zero; an end that does not exist is infinite here and null
    in JSON.

    Attributes:
        task: Name of the held-out task.
        metric: Name of the measure.
        unit: Unit of the losses.
        n: Examples.
        base: Mean loss of the base.
        tuned: Mean loss of the tuned model.
        forgetting: tuned - base; positive means forgotten.
        low: Lower end of the interval.
        high: Upper end.
        level: Its level, such as 0.95.
        score_name: What a person would quote.
        base_score: Its value for the base.
        tuned_score: Its value for the tuned model.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.
        warnings: Sentences that a reader of the figure has to know.
        cannot_tell: Why the examples hold too little information for a verdict, or "".
        interval: How the interval was made; "" where there is none.
    """

    task: str
    metric: str
    unit: str
    n: int
    base: float
    tuned: float
    forgetting: float
    low: float
    high: float
    level: float
    score_name: str
    base_score: float
    tuned_score: float
    resamples: int
    seed: int
    warnings: tuple[str, ...] = ()
    cannot_tell: str = ""
    interval: str = ""

    @property
    def spans_zero(self) -> bool:
        """Whether the interval allows that nothing was forgotten or gained."""
        return self.low <= 0.0 <= self.high

    @property
    def finding(self) -> Literal["forgotten", "gained", "not shown", "cannot tell"]:
        """The verdict in a word."""
        if self.cannot_tell:
            return "cannot tell"
        if self.spans_zero:
            return "not shown"
        return "forgotten" if self.low > 0 else "gained"

    @property
    def verdict(self) -> str:
        """One sentence: what happened, how sure."""
        figures = (
            f"{self.forgetting:+.4g} {self.unit} {interval_text(self.low, self.high)} "
            f"({self.level:.0%} interval, {self.n:,} example{'' if self.n == 1 else 's'}); "
            f"{self.score_name} {self.base_score:.4g} -> {self.tuned_score:.4g}."
        )
        if self.cannot_tell:
            return f"{self.task}: cannot tell whether it was forgotten: {self.cannot_tell}; {figures}"
        if self.spans_zero:
            return f"{self.task}: no forgetting or gain shown; the interval spans zero: {figures}"
        return f"{self.task}: {self.finding}: {figures}"

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with the verdict; an end of the interval that does not exist is None."""
        return {
            **asdict(self),
            "low": stored_end(self.low),
            "high": stored_end(self.high),
            "spans_zero": self.spans_zero,
            "finding": self.finding,
            "verdict": self.verdict,
        }


def forgetting(
    base: Scores, tuned: Scores, *, seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95
) -> Forgetting:
    """The paired difference of two models' losses on the same examples.

    forgetting = sum_i w_i v_i(tuned) / sum_i w_i  -  sum_i w_i v_i(base) / sum_i w_i

    Args:
        base: Of the untouched base.
        tuned: Of the tuned model, in the same code path.
        seed: Of the resampling.
        resamples: Number of resamples.
        level: Coverage of the interval, in (0, 1).

    Raises:
        DataError: If the scores cannot be paired (other examples, truncation, settings, measure or weights), or the
            base was measured with an adapter switched on.

    Source: forgetting as the difference of losses, as in Shuttleworth et al., arXiv:2410.21228.
        Difference: paired per example, with the interval of `differences`; accuracies count by their error rate, so
        that positive always means forgotten.
    """
    if base.adapters:
        raise DataError(
            f"The base's score on '{base.task}' was measured with the adapter {base.adapters[0]!r} switched on. "
            "Measure the base before it is wrapped, or under disable_adapter()."
        )
    [found] = differences([(base, tuned)], seed=seed, resamples=resamples, level=level)
    n = len(base.values)
    return Forgetting(
        task=base.task,
        metric=base.metric,
        unit=base.unit,
        n=n,
        base=base.loss,
        tuned=tuned.loss,
        forgetting=tuned.loss - base.loss,
        low=found.low,
        high=found.high,
        level=level,
        score_name=base.score_name,
        base_score=base.score,
        tuned_score=tuned.score,
        resamples=resamples,
        seed=seed,
        warnings=(*few_examples_warning(n), *_told(base.warnings, tuned.warnings)),
        cannot_tell=found.cannot_tell,
        interval=found.method,
    )


def differences(
    pairs: Sequence[tuple[Scores, Scores]], *, seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95
) -> list[Estimate]:
    """Mean loss of the second of each pair minus that of the first, all pairs on the same examples.

    0/1 losses of equal weight have the score interval of `paired_proportions`; all others the bootstrap-t interval of
    `mean_estimates`, in which all pairs share the draws.

    Raises:
        DataError: If scores cannot be paired.
    """
    for first, second in pairs:
        require_pair(first, second)
    drawn = [(number, pair) for number, pair in enumerate(pairs) if not _are_binary(*pair)]
    found: dict[int, Estimate] = {}
    if drawn:
        values = np.column_stack([second.values - first.values for _, (first, second) in drawn])
        estimates = mean_estimates(values, drawn[0][1][0].weights, level=level, seed=seed, resamples=resamples)
        found = {number: _bounded(one, pair) for (number, pair), one in zip(drawn, estimates, strict=True)}
    return [
        found[number] if number in found else paired_proportions(first.values, second.values, level=level)
        for number, (first, second) in enumerate(pairs)
    ]


def require_pair(first: Scores, second: Scores) -> None:
    """Refuse scores that were not measured alike on the same examples.

    Raises:
        DataError: If the scores cannot be paired.
    """
    if (first.task, first.metric) != (second.task, second.metric):
        raise DataError(
            f"Scores of '{first.task}' ({first.metric}) and '{second.task}' ({second.metric}) cannot be paired. "
            "Measure both models on the same task."
        )
    if first.fingerprint != second.fingerprint or not np.array_equal(first.weights, second.weights):
        raise DataError(
            f"The scores on '{first.task}' come from different examples, truncation or settings "
            f"({len(first.values)} and {len(second.values)} examples). Measure both models with the same settings."
        )


def _bounded(estimate: Estimate, pair: tuple[Scores, Scores]) -> Estimate:
    """0/1 losses differ by no more than one."""
    if not all(is_binary(one.values) for one in pair):
        return estimate
    return replace(estimate, low=max(estimate.low, -1.0), high=min(estimate.high, 1.0))


def _are_binary(first: Scores, second: Scores) -> bool:
    return is_binary(first.values) and is_binary(second.values) and len(np.unique(first.weights)) == 1


def _told(base: Sequence[str], tuned: Sequence[str]) -> Iterator[str]:
    """What is said of both models once, then what is said of the base alone, then of the tuned model alone."""
    yield from (sentence for sentence in tuned if sentence in base)
    yield from (f"Base: {sentence}" for sentence in base if sentence not in tuned)
    yield from (sentence for sentence in tuned if sentence not in base)
