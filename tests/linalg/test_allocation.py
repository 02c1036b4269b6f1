import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.linalg.allocation import allocate


@given(
    data=st.lists(st.lists(st.floats(0.01, 10), min_size=1, max_size=4), min_size=1, max_size=3),
    budget=st.integers(0, 12),
)
def test_equal_costs_are_shared_out_as_no_other_choice_is_better(data: list[list[float]], budget: int) -> None:
    squares = [sorted(own, reverse=True) for own in data]
    ranks = allocate([torch.tensor(own, dtype=torch.float64) for own in squares], [2] * len(squares), budget)
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
    assert allocate(squares, [10, 3], 17) == [1, 2]
