import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.linalg.svd import thin_svd
from spectra.metrics.amplification import amplification
from tests import reference
from tests.planted import orthonormal


def found(W0: torch.Tensor, delta: torch.Tensor, r: int) -> float | None:
    svd = thin_svd(delta).leading(r)
    return amplification(float(delta.norm()), svd.U, W0 @ svd.Vh.mH)


def test_an_update_of_six_where_the_base_has_two_amplifies_threefold() -> None:
    W0, delta = torch.diag(torch.tensor([2.0, 9.0])), torch.diag(torch.tensor([6.0, 0.0]))
    assert found(W0, delta, 1) == pytest.approx(3.0)


@given(seed=st.integers(0, 40), r=st.integers(1, 4))
def test_the_factor_agrees_with_the_definition_and_forgets_a_common_rotation(seed: int, r: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    W0 = torch.randn(12, 9, generator=generator, dtype=torch.float64)
    delta = torch.randn(12, 4, generator=generator).double() @ torch.randn(4, 9, generator=generator).double()
    factor = found(W0, delta, r)
    assert factor == pytest.approx(reference.amplification(W0.numpy(), delta.numpy(), r))
    R, Q = orthonormal(12, 12, generator), orthonormal(9, 9, generator)
    assert found(R @ W0 @ Q, R @ delta @ Q, r) == pytest.approx(factor)
    assert found(W0.mH, delta.mH, r) == pytest.approx(factor)
    assert found(5 * W0, 5 * delta, r) == pytest.approx(factor)


def test_a_base_that_vanishes_on_the_update_has_no_factor() -> None:
    assert found(torch.diag(torch.tensor([0.0, 3.0])), torch.diag(torch.tensor([1.0, 0.0])), 1) is None
