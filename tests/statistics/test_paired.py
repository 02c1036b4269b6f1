"""Paired differences: hand-sized cases, an independent bootstrap, and the guards that refuse what cannot be paired."""

from dataclasses import replace

import numpy as np
import pytest

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


def test_a_constant_shift_has_an_interval_of_no_width() -> None:
    drawn = np.random.default_rng(0).normal(size=300)
    result = forgetting(scores(drawn), scores(drawn + 0.5))
    assert result.low == pytest.approx(0.5) and result.high == pytest.approx(0.5)
    assert not result.spans_zero and "forgotten: +0.5 nats per token" in result.verdict


def test_pairing_sees_what_unpaired_intervals_hide() -> None:
    generator = np.random.default_rng(0)
    base = generator.normal(scale=5.0, size=400)
    tuned = base + 0.1 + generator.normal(scale=0.2, size=400)
    result = forgetting(scores(base), scores(tuned))
    assert 0 < result.low < 0.1 < result.high
    assert result.high - result.low < 0.1  # an unpaired interval would be about 4 * 5 * sqrt(2/400) = 1.4 wide


def test_the_interval_agrees_with_an_independent_bootstrap() -> None:
    generator = np.random.default_rng(1)
    weights = generator.integers(1, 30, 80).astype(float)
    base, tuned = generator.normal(size=80), generator.normal(0.3, size=80)
    result = forgetting(scores(base, weights.tolist()), scores(tuned, weights.tolist()), resamples=4000)
    differences = []
    for _ in range(4000):
        drawn = generator.integers(0, 80, 80)
        picked = weights[drawn]
        differences.append(float((picked * (tuned - base)[drawn]).sum() / picked.sum()))
    low, high = np.quantile(differences, [0.025, 0.975])
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


def test_a_gain_is_called_a_gain() -> None:
    drawn = np.random.default_rng(0).normal(size=300)
    assert "gained: -0.5" in forgetting(scores(drawn), scores(drawn - 0.5)).verdict


def test_the_same_seed_gives_the_same_interval() -> None:
    generator = np.random.default_rng(4)
    base, tuned = scores(generator.normal(size=50)), scores(generator.normal(size=50))
    assert forgetting(base, tuned, seed=1) == forgetting(base, tuned, seed=1)
    assert forgetting(base, tuned, seed=1).low != forgetting(base, tuned, seed=2).low


def test_few_examples_are_warned_of() -> None:
    assert forgetting(scores([1.0, 2.0]), scores([1.0, 2.5])).warnings[0] == "Only 2 examples: the interval is rough."


def test_a_base_with_an_adapter_switched_on_is_refused() -> None:
    with pytest.raises(DataError, match=r"was measured with the adapter 'default' switched on\. Measure the base bef"):
        forgetting(scores([1.0], adapters=("default",)), scores([1.0]))


def test_scores_of_other_examples_or_truncation_are_refused() -> None:
    with pytest.raises(DataError, match=r"come from different examples, truncation or settings \(2 and 2 examples\)"):
        forgetting(scores([1.0, 2.0]), scores([1.0, 2.0], fingerprint="other"))


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
