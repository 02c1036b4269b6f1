import pytest
import torch

from spectra.linalg.basis import in_base_basis, out_of_base_basis
from spectra.linalg.operators import Updated
from spectra.linalg.svd import thin_svd
from tests.planted import base_matrix, random_update


@pytest.mark.parametrize("shape", [(40, 40), (60, 40), (40, 60)])
def test_the_matrix_in_the_base_basis_has_the_same_singular_values_and_cosines(shape: tuple[int, int]) -> None:
    W, _ = base_matrix(*shape, "head and bulk", seed=1)
    update = random_update(*shape, 3, 20.0, seed=2)
    base = thin_svd(W)
    diagonal, inside = in_base_basis(base, update)
    C = Updated(diagonal, inside).dense()
    expected = thin_svd(W + update.dense())
    found = thin_svd(C)
    assert torch.allclose(found.S[:40], expected.S[:40], atol=1e-4)
    outside = out_of_base_basis(base, update, found.U[:, :5])
    assert torch.allclose((outside.mH @ expected.U[:, :5]).abs(), torch.eye(5), atol=2e-4)
    cosines = (base.U.mH @ expected.U[:, :5]).abs()
    # 2e-4: two float32 factorisations of matrices with singular values up to 30.
    assert torch.allclose(found.U[:40, :5].abs(), cosines, atol=2e-4)
