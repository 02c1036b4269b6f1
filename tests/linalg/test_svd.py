import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.errors import SpectrumError
from spectra.linalg.svd import SVD, fix_signs, low_rank_svd, thin_svd


def assert_orthonormal(columns: torch.Tensor) -> None:
    identity = torch.eye(columns.shape[1], dtype=columns.dtype)
    # 50 roundings: LAPACK's Householder vectors are orthonormal to a small multiple of eps.
    assert torch.allclose(columns.mH @ columns, identity, atol=50 * torch.finfo(columns.dtype).eps)


def test_a_diagonal_matrix_shows_its_entries_as_singular_values() -> None:
    svd = thin_svd(torch.diag(torch.tensor([1.0, 3.0, 2.0])))
    assert svd.S.tolist() == pytest.approx([3.0, 2.0, 1.0])
    assert svd.U[1, 0] == pytest.approx(1.0)


@given(d_out=st.integers(1, 30), d_in=st.integers(1, 30), seed=st.integers(0, 9))
def test_the_thin_svd_rebuilds_the_matrix(d_out: int, d_in: int, seed: int) -> None:
    W = torch.randn(d_out, d_in, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    svd = thin_svd(W)
    assert torch.allclose(svd.to_dense(), W, atol=1e-12)
    assert_orthonormal(svd.U)
    assert_orthonormal(svd.Vh.mH)


@given(d_out=st.integers(1, 20), d_in=st.integers(1, 20), rank=st.integers(1, 24), scaling=st.floats(-3, 3))
def test_the_svd_of_a_product_equals_that_of_the_formed_matrix(
    d_out: int, d_in: int, rank: int, scaling: float
) -> None:
    generator = torch.Generator().manual_seed(rank)
    B = torch.randn(d_out, rank, generator=generator, dtype=torch.float64)
    A = torch.randn(rank, d_in, generator=generator, dtype=torch.float64)
    svd = low_rank_svd(B, A, scaling)
    dense = scaling * B @ A
    assert torch.allclose(svd.to_dense(), dense, atol=1e-9)
    expected = torch.linalg.svdvals(dense)
    count = min(expected.shape[0], svd.S.shape[0])
    assert torch.allclose(svd.S[:count], expected[:count], atol=1e-9)
    assert bool((svd.S >= 0).all())


def test_the_sign_rule_makes_the_largest_entry_of_every_left_vector_positive() -> None:
    svd = thin_svd(torch.randn(9, 5))
    flipped = SVD(-svd.U, svd.S, -svd.Vh)
    again = fix_signs(flipped)
    assert torch.equal(again.U, svd.U)
    assert torch.equal(again.Vh, svd.Vh)


def test_a_matrix_with_nan_is_refused_with_the_number_of_bad_entries() -> None:
    W = torch.zeros(3, 4)
    W[0, 1], W[2, 2] = float("nan"), float("inf")
    with pytest.raises(SpectrumError, match=r"\(3, 4\) matrix has 2 entries that are NaN or infinite"):
        thin_svd(W)
