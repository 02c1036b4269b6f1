import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.metrics.ranks import default_rcond, effective_rank, numerical_rank, stable_rank
from tests import reference

SPECTRUM = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=30).map(
    lambda values: torch.tensor(sorted(values, reverse=True), dtype=torch.float64)
)


def test_one_large_and_ten_small_values_tell_the_two_ranks_apart() -> None:
    S = torch.tensor([10.0] + [1.0] * 10)
    assert effective_rank(S) == pytest.approx(6.32, abs=0.01)
    assert stable_rank(S) == pytest.approx(1.1)


@given(SPECTRUM)
def test_ranks_agree_with_the_formulas_and_their_bounds(S: torch.Tensor) -> None:
    assert effective_rank(S) == pytest.approx(reference.entropy_rank(S.numpy()), rel=1e-9)
    assert stable_rank(S) == pytest.approx(float((S**2).sum() / S[0] ** 2), rel=1e-9)
    for rank in (effective_rank(S), stable_rank(S)):
        assert 1 - 1e-9 <= rank <= S.shape[0] + 1e-9


@given(SPECTRUM, st.floats(1e-3, 1e3))
def test_ranks_do_not_depend_on_scale(S: torch.Tensor, scale: float) -> None:
    assert effective_rank(scale * S) == pytest.approx(effective_rank(S), rel=1e-9)
    assert stable_rank(scale * S) == pytest.approx(stable_rank(S), rel=1e-9)


def test_a_zero_matrix_has_rank_zero() -> None:
    assert effective_rank(torch.zeros(4)) == 0.0
    assert stable_rank(torch.zeros(4)) == 0.0


def test_values_below_the_relative_threshold_are_not_counted() -> None:
    S = torch.tensor([100.0, 1.0, 1e-4])
    assert numerical_rank(S, rcond=1e-3) == 2
    assert numerical_rank(S, rcond=1e-7) == 3
    assert numerical_rank(torch.zeros(3), rcond=1e-3) == 0


@given(SPECTRUM)
def test_the_numerical_rank_is_numpys(S: torch.Tensor) -> None:
    matrix = torch.diag(S).numpy()
    rcond = default_rcond(tuple(matrix.shape), torch.float64)
    assert numerical_rank(S, rcond=rcond) == np.linalg.matrix_rank(matrix)


@given(SPECTRUM)
def test_weights_of_two_stand_for_every_value_twice(S: torch.Tensor) -> None:
    weights, twice = torch.full_like(S, 2.0), S.repeat_interleave(2)
    assert effective_rank(S, weights) == pytest.approx(effective_rank(twice))
    assert numerical_rank(S, rcond=1e-2, weights=weights) == numerical_rank(twice, rcond=1e-2)
