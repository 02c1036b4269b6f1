"""Ranks by number, energy, error and budget."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.errors import SpectrumError
from spectra.surgery.rank_choice import RankChoice, spread


@pytest.mark.parametrize("given", [{}, {"rank": 4, "energy": 0.5}])
def test_exactly_one_way_is_asked_for(given: dict[str, float]) -> None:
    with pytest.raises(SpectrumError, match="Give one of rank, energy, error and parameters"):
        RankChoice(**given)  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{"rank": 0}, {"energy": 0.0}, {"energy": 1.5}, {"error": 1.0}, {"parameters": 0}])
def test_values_without_meaning_are_refused(given: dict[str, float]) -> None:
    with pytest.raises(SpectrumError, match="Use for instance"):
        RankChoice(**given)  # type: ignore[arg-type]


def test_a_rank_above_the_dimension_names_the_matrix() -> None:
    with pytest.raises(SpectrumError, match="Rank 5 exceeds the smaller dimension of 'q', which is 4 x 9"):
        RankChoice(rank=5).require_within([("q", (4, 9))])


@given(
    data=st.lists(st.lists(st.floats(0.01, 10), min_size=1, max_size=4), min_size=1, max_size=3),
    budget=st.integers(0, 12),
)
def test_equal_costs_are_spread_as_no_other_spread_is_better(data: list[list[float]], budget: int) -> None:
    squares = [sorted(own, reverse=True) for own in data]
    ranks = spread([torch.tensor(own, dtype=torch.float64) for own in squares], [2] * len(squares), budget)
    held = sum(sum(own[:rank]) for own, rank in zip(squares, ranks, strict=True))
    choices = itertools.product(*(range(len(own) + 1) for own in squares))
    best = max(
        sum(sum(own[:rank]) for own, rank in zip(squares, choice, strict=True))
        for choice in choices
        if 2 * sum(choice) <= budget
    )
    assert 2 * sum(ranks) <= budget
    assert held == pytest.approx(best)


def test_dear_triplets_give_way_to_cheap_ones_that_still_fit() -> None:
    squares = [torch.tensor([10.0, 9.0]), torch.tensor([4.0, 3.0])]
    assert spread(squares, [10, 3], 17) == [1, 2]
