import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.errors import SpectrumError
from spectra.metrics.explained_variance import rank_for_variance
from tests import reference

SPECTRUM = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30).map(
    lambda values: torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
)


def test_nine_tenths_of_three_four_are_reached_by_both_and_six_tenths_by_the_first() -> None:
    S = torch.tensor([4.0, 3.0])
    assert rank_for_variance(S, 0.64) == 1
    assert rank_for_variance(S, 0.9) == 2


def test_equal_values_need_their_share_of_the_count() -> None:
    assert rank_for_variance(torch.ones(100), 0.9) == 90


@given(SPECTRUM, st.floats(0.01, 1.0))
def test_ranks_agree_with_summing_up_one_by_one(S: torch.Tensor, share: float) -> None:
    assert rank_for_variance(S, share) == reference.share_rank(S.numpy(), share)


@given(SPECTRUM, st.floats(1e-3, 1e3))
def test_ranks_do_not_depend_on_scale(S: torch.Tensor, scale: float) -> None:
    # A power of two scales without rounding, so that ties stay ties.
    factor = 2.0 ** round(scale % 7)
    assert rank_for_variance(factor * S, 0.9) == rank_for_variance(S, 0.9)


def test_a_weight_of_three_stands_for_three_equal_values() -> None:
    S, weights = torch.tensor([2.0, 1.0]), torch.tensor([1.0, 4.0])
    plain = rank_for_variance(torch.tensor([2.0, 1.0, 1.0, 1.0, 1.0]), 0.9)
    assert plain - 1 < rank_for_variance(S, 0.9, weights) <= plain


def test_a_zero_matrix_has_rank_zero() -> None:
    assert rank_for_variance(torch.zeros(4), 0.9) == 0
    assert rank_for_variance(torch.zeros(0), 0.9) == 0


@pytest.mark.parametrize("share", [0.0, -1.0, 1.5, float("nan")])
def test_an_impossible_share_is_named(share: float) -> None:
    with pytest.raises(SpectrumError, match=r"share is .*lies in \(0, 1\]"):
        rank_for_variance(torch.ones(3), share)
