import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.linalg.svd import thin_svd
from spectra.metrics.windows import window_cosines
from tests import reference
from tests.planted import orthonormal


def test_a_vector_over_two_neighbours_is_found_by_a_window_of_two_and_not_by_one() -> None:
    cosines = torch.tensor([[0.0], [1 / math.sqrt(2)], [-1 / math.sqrt(2)], [0.0]])
    assert float(window_cosines(cosines, width=1)) == pytest.approx(1 / math.sqrt(2))
    assert float(window_cosines(cosines, width=2)) == pytest.approx(1.0)


def test_a_vector_over_two_values_far_apart_is_not_forgiven() -> None:
    cosines = torch.zeros(40, 1)
    cosines[[0, 39]] = 1 / math.sqrt(2)
    assert float(window_cosines(cosines, width=16)) == pytest.approx(1 / math.sqrt(2))


@given(n=st.integers(1, 40), k=st.integers(1, 5), width=st.integers(1, 45), seed=st.integers(0, 30))
def test_scores_agree_with_every_window_tried_in_turn(n: int, k: int, width: int, seed: int) -> None:
    cosines = orthonormal(48, k, torch.Generator().manual_seed(seed))[:n]
    expected = reference.best_window(cosines.numpy(), width)
    assert window_cosines(cosines, width).tolist() == pytest.approx(expected, abs=1e-9)


@given(seed=st.integers(0, 30))
def test_scores_grow_with_the_width_and_start_at_the_largest_cosine(seed: int) -> None:
    cosines = orthonormal(30, 4, torch.Generator().manual_seed(seed))
    scores = [window_cosines(cosines, width) for width in (1, 2, 8, 16, 30)]
    assert torch.allclose(scores[0], cosines.abs().max(dim=0).values)
    assert torch.allclose(scores[-1], torch.ones(4, dtype=torch.float64))
    for narrow, wide in pairwise(scores):
        assert bool((narrow <= wide + 1e-12).all())


def test_a_rotation_among_nearly_equal_singular_values_is_no_new_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    U, V = orthonormal(60, 60, generator), orthonormal(60, 60, generator)
    S = torch.cat([torch.linspace(1.001, 1.0, 12), torch.linspace(0.5, 0.1, 48)]).double()
    W0 = (U * S) @ V.mH
    W = W0 + 0.02 * torch.randn(60, 60, generator=generator, dtype=torch.float64) / 60**0.5
    cosines = thin_svd(W0).U.mH @ thin_svd(W).U[:, :10]
    assert float(cosines.abs().max(dim=0).values.min()) < 0.7
    assert float(window_cosines(cosines).min()) > 0.99


def test_a_planted_direction_spread_over_the_whole_spectrum_stays_below_every_threshold() -> None:
    cosines = torch.full((100, 1), 0.1)
    assert float(window_cosines(cosines)) == pytest.approx(0.4)
