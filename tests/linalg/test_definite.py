import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra.linalg.definite import smallest_eigenvalue_exceeds
from spectra.linalg.operators import Dense, RowChunked
from tests.planted import orthonormal

FLOOR, LARGEST = 1e-3, 100.0


def tall(smallest: float, dtype: torch.dtype, rows: int = 150, seed: int = 0) -> torch.Tensor:
    """Singular values from 10 down to 1, and one last value as given."""
    generator = torch.Generator().manual_seed(seed)
    S = torch.linspace(10, 1, 60, dtype=torch.float64)
    S[-1] = smallest
    return ((orthonormal(rows, 60, generator) * S) @ orthonormal(60, 60, generator).mH).to(dtype)


def in_chunks(W: torch.Tensor, rows: int, read: list[int] | None = None) -> RowChunked:
    def take(start: int, stop: int) -> torch.Tensor:
        if read is not None:
            read.append(stop - start)
        return W[start:stop]

    return RowChunked(take, (W.shape[0], W.shape[1]), W.dtype, W.device, rows)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_matrix_without_small_singular_values_is_proven(dtype: torch.dtype) -> None:
    assert smallest_eigenvalue_exceeds(Dense(tall(1.0, dtype)), FLOOR, LARGEST)


@given(
    relative=st.floats(0.0, 0.999),
    rows=st.integers(61, 400),
    chunk=st.sampled_from((None, 1, 7, 64, 1000)),
    seed=st.integers(0, 10_000),
    scale=st.floats(1e-3, 1e3),
)
def test_a_singular_value_below_the_floor_is_never_proven_away(
    relative: float, rows: int, chunk: int | None, seed: int, scale: float
) -> None:
    """The planted eigenvalue is relative^2 * floor, whatever part of the rows is looked at and at any scale."""
    W = scale * tall(relative * FLOOR**0.5, torch.float32, rows, seed)
    operator = Dense(W) if chunk is None else in_chunks(W, chunk)
    assert not smallest_eigenvalue_exceeds(operator, scale**2 * FLOOR, scale**2 * LARGEST)


@given(n=st.integers(2, 70), rows=st.integers(1, 300), seed=st.integers(0, 10_000))
@settings(max_examples=60)
def test_whatever_is_proven_is_true(n: int, rows: int, seed: int) -> None:
    """Gaussian matrices of any shape: a square one has a singular value near zero, a tall one has none."""
    W = torch.randn(n + rows, n, generator=torch.Generator().manual_seed(seed))
    S = torch.linalg.svdvals(W.double())
    for floor in (1e-4, 1e-2, 1.0, 0.5 * n):
        if smallest_eigenvalue_exceeds(Dense(W), floor, float(S[0] ** 2)):
            assert float(S[-1] ** 2) >= floor


@pytest.mark.parametrize("chunk", [None, 16, 1000])
def test_rows_that_are_rank_deficient_alone_do_not_hide_that_the_whole_is_not(chunk: int | None) -> None:
    """One column lives in the last row alone: every try on a part of the rows must fail, the last one must not."""
    W = tall(1.0, torch.float32, rows=599)
    W[:, 0] = 0
    last = torch.zeros(1, 60)
    last[0, 0] = 3.0
    W = torch.cat([W, last])
    operator = Dense(W) if chunk is None else in_chunks(W, chunk)
    assert smallest_eigenvalue_exceeds(operator, FLOOR, LARGEST)
    assert not smallest_eigenvalue_exceeds(in_chunks(W[:-1], 16), FLOOR, LARGEST)


def test_a_rank_deficient_matrix_of_many_rows_is_never_proven() -> None:
    W = tall(1.0, torch.float32, rows=600)
    W[:, 7] = W[:, 3] - 2 * W[:, 11]
    assert not smallest_eigenvalue_exceeds(Dense(W), FLOOR, LARGEST)


def test_a_matrix_in_storage_is_read_no_further_than_the_proof_needs() -> None:
    read: list[int] = []
    assert smallest_eigenvalue_exceeds(in_chunks(tall(1.0, torch.float64, rows=600), 25, read), 1e-6, LARGEST)
    assert sum(read) == 75  # 1.25 rows per column


def test_a_part_of_the_rows_is_spread_over_a_matrix_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fused layer whose first part is zero: its first 200 rows alone would prove nothing."""
    W = torch.cat([torch.zeros(200, 60), tall(1.0, torch.float32, rows=400)])
    tried: list[int] = []
    monkeypatch.setattr(
        torch.linalg, "cholesky_ex", lambda gram, factorise=torch.linalg.cholesky_ex: tried.append(1) or factorise(gram)
    )
    assert smallest_eigenvalue_exceeds(Dense(W), 1e-6, LARGEST)
    assert len(tried) <= 2  # in their order, only the third try (all rows) could succeed
    tried.clear()
    assert smallest_eigenvalue_exceeds(in_chunks(W, 30), 1e-6, LARGEST)
    assert len(tried) == 3


@pytest.mark.parametrize("size", [0.0, 0.5, 0.9, 1.1, 3.0])
@pytest.mark.parametrize("place", [0, 150, 299])
def test_a_planted_small_singular_value_is_told_in_every_block_of_the_factorisation(size: float, place: int) -> None:
    """n = 300 is factorised by halves: the direction lies in the first, at the seam, or in the last block."""
    generator = torch.Generator().manual_seed(place)
    W = torch.linalg.qr(torch.randn(900, 300, generator=generator, dtype=torch.float64))[0]
    floor = 1e-3
    W[:, place] *= size * floor**0.5  # orthonormal columns: the singular values are their lengths
    assert smallest_eigenvalue_exceeds(Dense(W), floor, 1.0) == (size > 1)
