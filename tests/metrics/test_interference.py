import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.linalg.svd import thin_svd
from spectra.metrics.interference import rho
from tests import reference
from tests.planted import orthonormal


def found(W0: torch.Tensor, delta: torch.Tensor, k: int) -> float:
    return rho(delta.mH @ thin_svd(W0).leading(k).U, float(delta.norm()))


def test_an_update_split_evenly_over_a_leading_and_a_trailing_direction_interferes_by_half() -> None:
    assert found(torch.diag(torch.tensor([9.0, 1.0])), torch.eye(2), 1) == pytest.approx(0.5)


@given(seed=st.integers(0, 40), k=st.integers(1, 8))
def test_the_share_agrees_with_the_projector_and_forgets_rotation_and_scale(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    W0 = torch.randn(12, 9, generator=generator, dtype=torch.float64)
    delta = torch.randn(12, 9, generator=generator, dtype=torch.float64)
    share = found(W0, delta, k)
    assert share == pytest.approx(reference.energy_inside(thin_svd(W0).U.numpy(), delta.numpy(), k))
    R = orthonormal(12, 12, generator)
    assert found(R @ W0, R @ delta, k) == pytest.approx(share)
    assert found(W0, -7 * delta, k) == pytest.approx(share)


def test_an_update_projected_off_the_leading_subspace_does_not_interfere() -> None:
    generator = torch.Generator().manual_seed(0)
    W0 = torch.randn(10, 10, generator=generator, dtype=torch.float64)
    U = thin_svd(W0).leading(3).U
    delta = torch.randn(10, 10, generator=generator, dtype=torch.float64)
    assert found(W0, delta - U @ (U.mH @ delta), 3) == pytest.approx(0.0, abs=1e-20)
    assert found(W0, U @ (U.mH @ delta), 3) == pytest.approx(1.0)


def test_a_zero_update_does_not_interfere() -> None:
    assert rho(torch.zeros(5, 2), 0.0) == 0.0
