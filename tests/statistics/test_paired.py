"""Paired differences: hand-sized cases, an independent bootstrap, and the guards that refuse what cannot be paired."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from spectra.errors import DataError
from spectra.forgetting import Scores, forgetting


def scores(values: list[float] | np.ndarray, weights: list[float] | None = None, **changed: object) -> Scores:
    array = np.array(values, dtype=np.float64)
    full = np.ones_like(array) if weights is None else np.array(weights, dtype=np.float64)
    made = Scores("task", "lm-loss", "nats per token", array, full, "loss", float(np.average(array, weights=full)), "f")
    return replace(made, **changed)  # type: ignore[arg-type]


def test_forgetting_is_the_difference_of_weighted_means() -> None:
    result = forgetting(scores([1.0, 3.0], [3.0, 1.0]), scores([2.0, 3.0], [3.0, 1.0]))
    assert (result.base, result.tuned, result.forgetting) == (1.5, 2.25, 0.75)


@pytest.mark.parametrize("shift", [0.0, 0.5, -0.1])
def test_one_difference_in_all_examples_does_not_tell_how_others_scatter(shift: float) -> None:
    drawn = np.random.default_rng(0).normal(size=300)
    result = forgetting(scores(drawn), scores(drawn + shift))
    assert result.forgetting == pytest.approx(shift)
    assert (result.low, result.high) == (-math.inf, math.inf)
    assert result.finding == "cannot tell" and result.spans_zero
    assert "unchanged" not in result.verdict and "no interval" in result.verdict
    assert (result.to_dict()["low"], result.to_dict()["high"]) == (None, None)
    json.dumps(result.to_dict(), allow_nan=False)


def test_pairing_sees_what_unpaired_intervals_hide() -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(scale=5.0, size=400)
    tuned = base + 0.1 + generator.normal(scale=0.2, size=400)
    result = forgetting(scores(base), scores(tuned))
    assert 0 < result.low < 0.1 < result.high
    assert result.high - result.low < 0.1  # an unpaired interval would be about 4 * 5 * sqrt(2/400) = 1.4 wide


def test_the_interval_agrees_with_an_independent_bootstrap() -> None:
    generator = np.random.default_rng(1)
    n = 80
    weights = generator.integers(1, 30, n).astype(float)
    base, tuned = generator.normal(size=n), generator.normal(0.3, size=n)
    result = forgetting(scores(base, weights.tolist()), scores(tuned, weights.tolist()), resamples=4000)
    d = tuned - base

    def mean_and_error(which: np.ndarray) -> tuple[float, float]:
        w, v = weights[which], d[which]
        mean = (w * v).sum() / w.sum()
        return mean, np.sqrt((w**2 * (v - mean) ** 2).sum() * n / (n - 1)) / w.sum()

    mean, error = mean_and_error(np.arange(n))
    drawn = [mean_and_error(generator.integers(0, n, n)) for _ in range(4000)]
    tail = 0.025 / (1 + 40 / n)
    below, above = np.quantile([(m - mean) / e for m, e in drawn], [tail, 1 - tail])
    student = stats.t.ppf(1 - tail, n - 1)
    low, high = mean - max(above, student) * error, mean - min(below, -student) * error
    # A quantile of 4,000 resamples has a standard error of about 2 % of the interval's width.
    assert result.low == pytest.approx(low, abs=0.06 * (high - low))
    assert result.high == pytest.approx(high, abs=0.06 * (high - low))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    generator = np.random.default_rng(2)
    covered = 0
    for repeat in range(200):
        base = generator.normal(size=100)
        result = forgetting(
            scores(base), scores(base + generator.normal(0.2, 1.0, size=100)), seed=repeat, resamples=500
        )
        covered += result.low <= 0.2 <= result.high
    assert 0.88 <= covered / 200 <= 0.99  # 0.95 +- 4 standard errors of 0.015


def test_an_interval_that_spans_zero_is_called_that() -> None:
    generator = np.random.default_rng(3)
    base = generator.normal(size=300)
    result = forgetting(scores(base), scores(base + generator.normal(0, 1, size=300)))
    assert result.spans_zero and "no forgetting or gain shown; the interval spans zero" in result.verdict


def test_a_gain_is_called_a_gain_and_a_loss_forgotten() -> None:
    drawn, noise = np.random.default_rng(0).normal(size=(2, 300))
    assert "gained: -0.5" in forgetting(scores(drawn), scores(drawn - 0.5 + 0.01 * noise)).verdict
    assert "forgotten: +0.49" in forgetting(scores(drawn), scores(drawn + 0.5 + 0.01 * noise)).verdict


@pytest.mark.parametrize(
    ("base", "tuned", "reason"),
    [
        ([1.0], [3.0], "there is only 1 example, and 20 are needed"),
        ([1.0], [0.0], "the loss of only 1 of 1 example changed, and 6 are needed"),
        (list(np.arange(12) / 7), list(np.arange(12) / 6 + 3), "there are only 12 examples, and 20 are needed"),
        ([0.0] * 30, [0.0] * 30, "the loss of none of 30 examples changed, and 6 are needed"),
        ([0.0] * 30, [1.0] * 5 + [0.0] * 25, "the loss of only 5 of 30 examples changed, and 6 are needed"),
        ([0.5] * 30, [0.7] * 5 + [0.5] * 25, "the loss of only 5 of 30 examples changed, and 6 are needed"),
        ([0.5] * 30, [0.7] * 29 + [0.5], "the difference of only 1 of 30 examples is another than that of all the"),
        (list(np.arange(30) / 99), [100.0, *(np.arange(1, 30) / 98)], "one of the 30 examples outweighs all others"),
    ],
)
def test_too_little_information_gives_no_verdict(base: list[float], tuned: list[float], reason: str) -> None:
    result = forgetting(scores(base), scores(tuned))
    assert result.cannot_tell.startswith(reason)
    assert result.verdict.startswith(f"task: cannot tell whether it was forgotten: {reason}")
    assert result.low <= 0 <= result.high and result.low < result.high
    told = result.to_dict()
    assert told["finding"] == "cannot tell" and told["cannot_tell"] == result.cannot_tell
    json.dumps(told, allow_nan=False)


def test_six_errors_more_and_none_less_are_told_whatever_the_number_of_examples() -> None:
    for n in (6, 20, 400):
        result = forgetting(scores([0.0] * n), scores([1.0] * 6 + [0.0] * (n - 6)))
        assert result.finding == "forgotten" and "Tango" in result.interval


def test_weighted_errors_stay_within_one() -> None:
    result = forgetting(scores([0.0] * 30, list(range(1, 31))), scores([1.0, 1.0] + [0.0] * 28, list(range(1, 31))))
    assert -1 <= result.low <= result.high <= 1 and result.finding == "cannot tell"


def test_the_same_seed_gives_the_same_interval() -> None:
    generator = np.random.default_rng(4)
    base, tuned = scores(generator.normal(size=50)), scores(generator.normal(size=50))
    assert forgetting(base, tuned, seed=1) == forgetting(base, tuned, seed=1)
    assert forgetting(base, tuned, seed=1).low != forgetting(base, tuned, seed=2).low


def test_few_examples_are_warned_of() -> None:
    result = forgetting(scores([1.0, 2.0]), scores([1.0, 2.5]))
    assert result.warnings == ("Only 2 examples: a small difference does not show.",)


def test_a_base_with_an_adapter_switched_on_is_refused() -> None:
    with pytest.raises(DataError, match=r"was measured with the adapter 'default' switched on\. Measure the base bef"):
        forgetting(scores([1.0], adapters=("default",)), scores([1.0]))


def test_scores_of_other_examples_or_truncation_are_refused() -> None:
    with pytest.raises(DataError, match=r"come from different examples, truncation or settings \(2 and 2 examples\)"):
        forgetting(scores([1.0, 2.0]), scores([1.0, 2.0], fingerprint="other"))


def test_scores_of_other_weights_are_refused() -> None:
    with pytest.raises(DataError, match="come from different examples"):
        forgetting(scores([1.0, 2.0], [1.0, 2.0]), scores([1.0, 2.0], [1.0, 3.0]))


def test_scores_of_another_measure_are_refused() -> None:
    with pytest.raises(DataError, match=r"'task' \(lm-loss\) and 'task' \(pseudo-loss\) cannot be paired"):
        forgetting(scores([1.0]), scores([1.0], metric="pseudo-loss"))


def test_a_loss_that_is_not_finite_is_refused_with_its_count() -> None:
    with pytest.raises(DataError, match=r"a loss of NaN or infinity on 2 of 3 examples of 'task'"):
        scores([1.0, float("nan"), float("inf")], weights=[1.0, 1.0, 1.0])


def test_scores_survive_their_json_form_exactly() -> None:
    made = scores(np.random.default_rng(5).normal(size=9), adapters=("a",), details={"x": 0.1}, warnings=("w",))
    back = Scores.from_dict(made.to_dict())
    assert np.array_equal(back.values, made.values) and back.to_dict() == made.to_dict()
