"""Forgetting: tuned minus base, paired by example, with a bootstrap interval and a sentence that keeps to it."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from spectra.errors import DataError
from spectra.statistics.scores import Scores

FEW_EXAMPLES = 200
CHUNK = 4_000_000  # numbers drawn at once: 32 MB


@dataclass(frozen=True)
class Forgetting:
    """What a tuned model lost on one held-out task.

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

    @property
    def spans_zero(self) -> bool:
        """Whether the interval allows that nothing was forgotten or gained."""
        return self.low <= 0.0 <= self.high

    @property
    def verdict(self) -> str:
        """One sentence: what happened, how sure."""
        figures = (
            f"{self.forgetting:+.4g} {self.unit} [{self.low:+.4g}, {self.high:+.4g}] "
            f"({self.level:.0%} interval, {self.n:,} examples)"
        )
        scores = f"{self.score_name} {self.base_score:.4g} -> {self.tuned_score:.4g}"
        if self.forgetting == self.low == self.high == 0.0:
            return f"{self.task}: unchanged; the loss on {self.n:,} examples is the same; {scores}."
        if self.spans_zero:
            return f"{self.task}: no forgetting or gain shown; the interval spans zero: {figures}; {scores}."
        return f"{self.task}: {'forgotten' if self.forgetting > 0 else 'gained'}: {figures}; {scores}."

    def to_dict(self) -> dict[str, Any]:
        """JSON form, with the verdict."""
        return {**asdict(self), "spans_zero": self.spans_zero, "verdict": self.verdict}


def forgetting(base: Scores, tuned: Scores, *, seed: int = 0, resamples: int = 2000, level: float = 0.95) -> Forgetting:
    """The paired difference of two models' losses on the same examples.

    forgetting = sum_i w_i v_i(tuned) / sum_i w_i  -  sum_i w_i v_i(base) / sum_i w_i

    The interval is the percentile bootstrap over examples: each resample draws the same examples for both models and
    forms both ratios anew, so that texts of different length keep their weights.  Cost O(resamples * n).

    Args:
        base: Of the untouched base.
        tuned: Of the tuned model, in the same code path.
        seed: Of the resampling.
        resamples: Number of resamples.
        level: Coverage of the interval, in (0, 1).

    Raises:
        DataError: If the scores cannot be paired (other examples, truncation, settings or measure), or the base was
            measured with an adapter switched on.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, chapters 13 and 16; forgetting as the difference
        of losses as in Shuttleworth et al., arXiv:2410.21228.
        Difference: paired per example, with an interval; accuracies count by their error rate, so that positive
        always means forgotten.
    """
    _require_pair(base, tuned)
    differences = _bootstrap(base, tuned, np.random.default_rng(seed), resamples)
    tail = (1 - level) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    n = len(base.values)
    few = (f"Only {n} examples: the interval is rough.",) if n < FEW_EXAMPLES else ()
    return Forgetting(
        task=base.task,
        metric=base.metric,
        unit=base.unit,
        n=n,
        base=base.loss,
        tuned=tuned.loss,
        forgetting=tuned.loss - base.loss,
        low=float(low),
        high=float(high),
        level=level,
        score_name=base.score_name,
        base_score=base.score,
        tuned_score=tuned.score,
        resamples=resamples,
        seed=seed,
        warnings=(*few, *(f"Base: {sentence}" for sentence in base.warnings), *tuned.warnings),
    )


def _require_pair(base: Scores, tuned: Scores) -> None:
    if base.adapters:
        raise DataError(
            f"The base's score on '{base.task}' was measured with the adapter {base.adapters[0]!r} switched on. "
            "Measure the base before it is wrapped, or under disable_adapter()."
        )
    if (base.task, base.metric) != (tuned.task, tuned.metric):
        raise DataError(
            f"Scores of '{base.task}' ({base.metric}) and '{tuned.task}' ({tuned.metric}) cannot be paired. "
            "Measure both models on the same task."
        )
    if base.fingerprint != tuned.fingerprint or len(base.values) != len(tuned.values):
        raise DataError(
            f"The scores on '{base.task}' come from different examples, truncation or settings "
            f"({len(base.values)} and {len(tuned.values)} examples). Measure both models with the same settings."
        )


def _bootstrap(base: Scores, tuned: Scores, generator: np.random.Generator, resamples: int) -> Float[np.ndarray, " n"]:
    n = len(base.values)
    sums = np.stack([base.weights * base.values, base.weights, tuned.weights * tuned.values, tuned.weights])
    differences = []
    for start in range(0, resamples, rows := max(1, CHUNK // n)):
        drawn = generator.integers(n, size=(min(rows, resamples - start), n))
        base_sum, base_weight, tuned_sum, tuned_weight = (row[drawn].sum(1) for row in sums)
        differences.append(tuned_sum / tuned_weight - base_sum / base_weight)
    return np.concatenate(differences)
