import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.linalg.svd import thin_svd
from spectra.metrics.retention import diagonal_retention, spectrum_drift
from tests import reference
from tests.planted import orthonormal


def kept(W0: torch.Tensor, W: torch.Tensor, k: int) -> list[float]:
    svd = thin_svd(W0).leading(k)
    return diagonal_retention(svd.U, W @ svd.Vh.mH, svd.S).tolist()


def test_halving_one_direction_halves_its_retention_alone() -> None:
    W0 = torch.diag(torch.tensor([4.0, 2.0, 1.0]))
    W = torch.diag(torch.tensor([4.0, 1.0, 1.0]))
    assert kept(W0, W, 3) == pytest.approx([1.0, 0.5, 1.0])
    assert spectrum_drift(torch.tensor([4.0, 2.0, 1.0]), torch.tensor([4.0, 1.0, 1.0])) == pytest.approx(1 / 21**0.5)


@given(seed=st.integers(0, 40))
def test_retention_agrees_with_the_definition_and_forgets_signs_rotation_and_scale(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    W0 = torch.randn(11, 8, generator=generator, dtype=torch.float64)
    W = W0 + 0.3 * torch.randn(11, 8, generator=generator, dtype=torch.float64)
    expected = reference.retained(W0.numpy(), W.numpy(), 5)
    assert kept(W0, W, 5) == pytest.approx(expected)
    R, Q = orthonormal(11, 11, generator), orthonormal(8, 8, generator)
    assert kept(R @ W0 @ Q, R @ W @ Q, 5) == pytest.approx(expected)
    assert kept(-3 * W0, -3 * W, 5) == pytest.approx(expected)
    assert kept(W0.mH, W.mH, 5) == pytest.approx(expected)


@given(seed=st.integers(0, 40), size=st.floats(0.01, 3))
def test_the_spectrum_drifts_by_no_more_than_the_update(seed: int, size: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    W0 = torch.randn(9, 9, generator=generator, dtype=torch.float64)
    delta = size * torch.randn(9, 9, generator=generator, dtype=torch.float64)
    S0, S = torch.linalg.svdvals(W0), torch.linalg.svdvals(W0 + delta)
    # Mirsky's theorem.
    assert spectrum_drift(S0, S) <= float(delta.norm() / S0.norm()) * (1 + 1e-12)


def test_a_new_direction_outside_leaves_every_diagonal_alone() -> None:
    W0 = torch.diag(torch.tensor([4.0, 2.0, 0.0]))
    W = W0.clone()
    W[2, 2] = 50.0
    assert kept(W0, W, 2) == pytest.approx([1.0, 1.0])


def test_a_value_of_zero_has_nothing_to_keep() -> None:
    assert kept(torch.zeros(3, 3), torch.ones(3, 3), 2) == [1.0, 1.0]
    assert spectrum_drift(torch.zeros(2), torch.ones(2)) == 0.0
