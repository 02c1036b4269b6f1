"""Areas between curves and their resampling."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra.forgetting import Scores
from spectra.statistics.contrast import area, at_equal_score, losses_with_replicates, percentile_estimate


def scores(values: list[float], weights: list[float] | None = None) -> Scores:
    ones = [1.0] * len(values) if weights is None else weights
    return Scores("t", "m", "u", np.array(values, dtype=float), np.array(ones, dtype=float), "loss", 0.0, "f")


def curve(*values: float) -> np.ndarray:
    return np.array([values], dtype=float)


def test_the_first_row_holds_the_weighted_means() -> None:
    losses = losses_with_replicates([scores([1, 4], [3, 1]), scores([2, 2], [3, 1])], seed=0, resamples=5)
    assert losses.shape == (6, 2)
    np.testing.assert_allclose(losses[0], [1.75, 2.0])


def test_examples_are_drawn_once_for_all_points() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=40)
    losses = losses_with_replicates([scores(list(values)), scores(list(values + 0.5))], seed=1, resamples=50)
    np.testing.assert_allclose(losses[:, 1] - losses[:, 0], 0.5, atol=1e-12)
    assert losses[:, 0].std() > 0.05


def test_a_figure_that_resampling_does_not_move_is_not_told() -> None:
    found = percentile_estimate(np.zeros(50), n=300, level=0.95)
    assert found.finding == "cannot tell" and (found.low, found.high) == (-math.inf, math.inf)


def test_what_a_comparison_rests_on_keeps_it_from_a_verdict() -> None:
    replicates = np.random.default_rng(0).normal(5, 1, size=200)
    assert percentile_estimate(replicates, n=300, level=0.95).finding == "positive"
    found = percentile_estimate(replicates, n=300, level=0.95, cannot_tell="of a reason")
    assert found.finding == "cannot tell" and found.low == 0 and found.high > 5
    assert (
        percentile_estimate(replicates, n=19, level=0.95).cannot_tell == "there are only 19 examples, and 20 are needed"
    )


def test_the_area_is_the_mean_difference_over_lambda() -> None:
    # Trapezoids of 1 x (0 + 2)/2 / 4 and 3/4 x (2 + 4)/2, over a width of 1.
    assert area(np.array([0.0, 0.25, 1.0]), curve(0, 2, 4)) == pytest.approx([0.25 + 2.25])
    assert area(np.array([0.5, 1.0]), curve(3, 3)) == pytest.approx([3.0])


def test_at_equal_score_two_straight_paths_differ_by_their_mean_distance() -> None:
    # Both lose 0 to 1 of task score; the second forgets 1 - t, the first stays at 1: mean distance 1/2.
    task = (curve(1, 0), curve(1, 0))
    assert at_equal_score(task, (curve(1, 1), curve(0, 1))) == pytest.approx([0.5])


def test_an_arm_that_costs_no_task_score_is_compared_at_no_cost() -> None:
    # The second path mends for nothing; what the first one buys with task score does not count.
    assert at_equal_score((curve(5, 0), curve(0, 0)), (curve(-3, 1), curve(0.2, 1))) == pytest.approx([0.8])


def test_a_path_that_improves_the_task_first_is_judged_by_its_best_point() -> None:
    task = (curve(0.0, -1.0, 0.0), curve(0, 0, 0))
    assert at_equal_score(task, (curve(0.9, 0.3, 1.0), curve(1, 1, 1))) == pytest.approx([-0.7])


# Coarse values: where the task loss is nearly flat, the least forgetting jumps, and no search finds it by steps.
losses = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=3, max_size=3)


@settings(max_examples=25)
@given(task=losses, other_task=losses, forgotten=losses, other_forgotten=losses)
def test_at_equal_score_changes_sign_with_the_arms_and_agrees_with_a_search(
    task: list[float], other_task: list[float], forgotten: list[float], other_forgotten: list[float]
) -> None:
    # At lambda = 1, the last point, both arms are the tuned model.
    other_task[-1], other_forgotten[-1] = task[-1], forgotten[-1]
    arms = (task, forgotten), (other_task, other_forgotten)
    given_order = at_equal_score((curve(*task), curve(*other_task)), (curve(*forgotten), curve(*other_forgotten)))
    swapped = at_equal_score((curve(*other_task), curve(*task)), (curve(*other_forgotten), curve(*forgotten)))
    assert given_order == pytest.approx(-swapped, abs=1e-9)
    start, stop = task[-1], max(task[-1], min(max(task), max(other_task)))
    found = [least(*arms[0], t) - least(*arms[1], t) for t in np.linspace(start, stop, 33)]
    assert given_order == pytest.approx([np.mean(found)], abs=0.03)


def least(task: list[float], forgotten: list[float], limit: float) -> float:
    """By walking along the path in small steps."""
    steps = np.linspace(0, len(task) - 1, 801)
    walked_task, walked = (np.interp(steps, range(len(task)), values) for values in (task, forgotten))
    return min(walked[walked_task <= limit + 1.3e-3])
