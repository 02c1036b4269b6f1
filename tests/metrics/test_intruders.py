import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.errors import SpectrumError
from spectra.linalg.svd import thin_svd
from spectra.metrics.intruders import energy_share, intruder_mask, max_cosines
from tests import reference
from tests.planted import orthonormal


def test_a_vector_at_forty_five_degrees_to_two_base_vectors_has_cosine_one_over_root_two() -> None:
    U0 = torch.eye(3)
    y = torch.tensor([[1.0], [-1.0], [0.0]]) / math.sqrt(2)
    assert float(max_cosines(U0, y)) == pytest.approx(1 / math.sqrt(2))
    assert intruder_mask(U0, y, epsilon=0.71).tolist() == [True]
    assert intruder_mask(U0, y, epsilon=0.70).tolist() == [False]


@given(d_out=st.integers(2, 24), d_in=st.integers(2, 24), seed=st.integers(0, 20), size=st.floats(0.01, 10))
def test_cosines_agree_with_the_definition_computed_slowly(d_out: int, d_in: int, seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    W0 = torch.randn(d_out, d_in, generator=generator, dtype=torch.float64)
    W = W0 + size * torch.randn(d_out, d_in, generator=generator, dtype=torch.float64)
    found = max_cosines(thin_svd(W0).U, thin_svd(W).leading(5).U)
    assert found.tolist() == pytest.approx(reference.largest_cosines(W0.numpy(), W.numpy(), 5).tolist(), abs=1e-8)


@given(seed=st.integers(0, 50))
def test_cosines_do_not_depend_on_signs_order_or_rotation(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    U0, Y = orthonormal(12, 12, generator), orthonormal(12, 4, generator)
    R = orthonormal(12, 12, generator)
    signs = torch.where(torch.rand(12, generator=generator) < 0.5, -1.0, 1.0).double()
    shuffled = (U0 * signs)[:, torch.randperm(12, generator=generator)]
    assert torch.allclose(max_cosines(R @ shuffled, R @ -Y), max_cosines(U0, Y))


def test_a_planted_orthogonal_direction_is_exactly_one_intruder() -> None:
    generator = torch.Generator().manual_seed(1)
    U0 = orthonormal(80, 80, generator)[:, :40]
    V = orthonormal(40, 40, generator)
    W0 = (U0 * torch.linspace(9, 1, 40, dtype=torch.float64)) @ V.mH
    outside = orthonormal(80, 80, generator)[:, :1]
    outside = outside - U0 @ (U0.mH @ outside)
    W = W0 + 30 * outside / torch.linalg.vector_norm(outside) @ V[:, -1:].mH
    mask = intruder_mask(thin_svd(W0).U, thin_svd(W).leading(10).U, epsilon=0.5)
    assert mask.tolist() == [True] + [False] * 9


def test_an_untuned_matrix_has_no_intruders() -> None:
    W = torch.randn(30, 20, dtype=torch.float64)
    assert not bool(intruder_mask(thin_svd(W).U, thin_svd(W.clone()).leading(10).U, epsilon=0.99).any())


@pytest.mark.parametrize("epsilon", [0.0, -0.1, 1.5, float("nan")])
def test_an_impossible_epsilon_is_named(epsilon: float) -> None:
    with pytest.raises(SpectrumError, match=r"epsilon is .*lies in \(0, 1\]"):
        intruder_mask(torch.eye(2), torch.eye(2), epsilon=epsilon)


def test_the_energy_share_weighs_squares() -> None:
    assert energy_share(torch.tensor([4.0, 3.0]), torch.tensor([False, True])) == pytest.approx(9 / 25)
    assert energy_share(torch.zeros(2), torch.tensor([True, True])) == 0.0
