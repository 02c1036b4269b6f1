"""Norms of edited updates, from three numbers, against dense matrices."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import spectra
from spectra import Selection
from spectra.errors import SpectrumError
from spectra.interventions.deltas import DenseDelta, EditNorms, delta_of, inner_product, squared_norm, times
from spectra.linalg.operators import LowRankUpdate
from tests.interventions import planted
from tests.planted import random_update


def dense(update: LowRankUpdate) -> np.ndarray:
    return update.scaling * (update.B.double().numpy() @ update.A.double().numpy())


@given(t=st.floats(-1, 1), seed=st.integers(0, 4))
def test_what_is_left_of_the_norm_is_that_of_the_dense_sum(t: float, seed: int) -> None:
    delta, edit = random_update(20, 12, 3, 4.0, seed), random_update(20, 12, 2, 5.0, seed + 10)
    norms = EditNorms.of(delta, edit)
    left = np.sum((dense(delta) + t * dense(edit)) ** 2)
    assert norms.left(t) == pytest.approx(left, rel=1e-9)
    assert norms.shrink_factor(t) == pytest.approx(np.sqrt(left / np.sum(dense(delta) ** 2)), rel=1e-9)


def test_removing_the_whole_update_leaves_nothing_and_never_less() -> None:
    delta = random_update(20, 12, 3, 4.0, 0)
    assert 0 <= EditNorms.of(delta, delta).left(-1.0) < 1e-12 * squared_norm(delta)


def test_a_zero_update_cannot_be_scaled_to_a_norm() -> None:
    delta = random_update(6, 5, 1, 1.0, 0)
    with pytest.raises(SpectrumError, match="An update of norm 0 cannot be scaled"):
        EditNorms.of(times(delta, 0.0), delta).shrink_factor(-1.0)


def test_a_dense_delta_is_the_difference_of_the_checkpoints(tmp_path: Path) -> None:
    base = planted.save_base(tmp_path)
    tuned = planted.save_tuned(base, tmp_path / "tuned", "rest")
    (matrix,) = spectra.open_pair(base, tuned, Selection(include=r"layers\.0\..*down_proj")).matrices
    delta = delta_of(matrix, "cpu")
    assert isinstance(delta, DenseDelta)
    W0, W = matrix.W0.load(torch.float32, "cpu").double().numpy(), matrix.W_tuned().double().numpy()
    np.testing.assert_allclose(times(delta, -0.5).dense().double().numpy(), -0.5 * (W - W0), atol=1e-6)
    assert squared_norm(delta) == pytest.approx(np.sum((W - W0) ** 2), rel=1e-6)
    edit = random_update(planted.WIDTH, planted.UNITS, 2, 3.0, 1)
    assert inner_product(delta, edit) == pytest.approx(np.sum((W - W0) * dense(edit)), rel=1e-5)
