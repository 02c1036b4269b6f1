"""No leading eigenvalue is missing: the count of a Krylov run against the true spectrum."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gammaincinv

from spectra.linalg.basis import in_base_basis, singular_values_above
from spectra.linalg.completeness import amplitude, chi_square_quantile, complete_pairs
from spectra.linalg.krylov import BlockLanczos, gram_together, random_columns
from spectra.linalg.operators import Dense, LowRankUpdate
from spectra.linalg.svd import thin_svd
from spectra.linalg.triplets import leading_vectors
from tests.planted import SPECTRA, base_matrix


def hidden(size: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """W0, W0 plus one triplet orthogonal to its 40 leading ones, and the leading left vectors of W0."""
    W0, base = base_matrix(300, 300, "head and bulk", seed)
    draw = torch.Generator().manual_seed(seed)
    u, v = (torch.randn(300, generator=draw, dtype=torch.float64) for _ in range(2))
    U, V = base.U[:, :40].double(), base.Vh[:40].mH.double()
    u, v = u - U @ (U.mH @ u), v - V @ (V.mH @ v)
    u, v = u / u.norm(), v / v.norm()
    return W0, W0 + (size * u[:, None] * v[None, :]).float(), base.U[:, :20].float()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.9, 1.02, 1.5, 5.0])
def test_a_warm_start_from_eigenvectors_finds_a_new_leading_value(share: float, seed: int) -> None:
    W0, _, _ = hidden(1.0, seed)
    size = share * float(torch.linalg.svdvals(W0.double())[9])
    _, W, warm = hidden(size, seed)
    [found] = leading_vectors(Dense(W), [None], 10, warm=warm)
    true = torch.linalg.svdvals(W.double())[:10]
    assert torch.allclose(found.S.double(), true, rtol=1e-4)
    assert found.converged


@given(kind=st.sampled_from(SPECTRA), steps=st.integers(2, 14), wide=st.booleans(), seed=st.integers(0, 1000))
@settings(max_examples=60)
def test_a_count_never_overlooks_an_eigenvalue(kind: str, steps: int, wide: bool, seed: int) -> None:
    shape = (90, 140) if wide else (140, 90)
    W, base = base_matrix(*shape, kind, seed)
    start = (base.U[:, :90:3] if wide else base.Vh[:90:3].mH).float()  # every third eigenvector is given away
    run = BlockLanczos(torch.cat([random_columns(8, start, seed), start], dim=1), random=8)
    for _ in range(steps):
        if run.exhausted:
            break
        run.advance(gram_together(Dense(W), [None], [run.pending])[0])
    count = complete_pairs(run.ritz(), W.dtype, at_least=1, at_most=30)
    if count is not None:
        true = torch.linalg.svdvals(W.double()) ** 2
        assert int((true > count.limit * (1 + 1e-5)).sum()) <= count.number


def test_few_columns_say_nothing_and_more_say_more() -> None:
    assert amplitude(2, 1000) == 0.0
    assert 0 < amplitude(8, 4096) < amplitude(12, 4096) < amplitude(16, 4096)
    assert amplitude(12, 4096, group=2) < amplitude(12, 4096)


def test_the_amplitude_is_as_improbable_as_it_says() -> None:
    columns, trials = 6, 40_000
    w = amplitude(columns, 1, failure=0.1)
    draws = torch.randn(trials, columns, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    least = torch.linalg.svdvals(draws)[:, -1]
    assert float((least <= w * (2 * columns) ** 0.5).double().mean()) <= 0.1


@pytest.mark.parametrize("shape", [(60, 60), (90, 60), (60, 90)])
@pytest.mark.parametrize("rank", [1, 5, 20])
def test_inertia_counts_the_singular_values_of_an_updated_matrix(shape: tuple[int, int], rank: int) -> None:
    draw = torch.Generator().manual_seed(rank)
    W0 = torch.randn(shape, generator=draw, dtype=torch.float64)
    B = torch.randn(shape[0], rank, generator=draw, dtype=torch.float64)
    A = torch.randn(rank, shape[1], generator=draw, dtype=torch.float64)
    update = LowRankUpdate(B, A, -0.7)
    base = thin_svd(W0)
    _, inside = in_base_basis(base, update)
    S = torch.linalg.svdvals(W0 + update.dense())
    for k in (1, 2, 10, 40):
        assert singular_values_above(base.S, inside, float(S[k - 1] + S[k]) / 2) == k


@pytest.mark.parametrize("degrees", [1, 2, 5, 11, 12, 30])
@pytest.mark.parametrize("probability", [1e-14, 1e-9, 1e-4, 0.3])
def test_the_quantile_is_that_of_the_chi_square_distribution(degrees: int, probability: float) -> None:
    assert chi_square_quantile(degrees, probability) == pytest.approx(2 * gammaincinv(degrees / 2, probability), 1e-10)
