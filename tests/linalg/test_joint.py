"""One Krylov space for W0 and W0 + delta_W: its pairs are those of the sum, whatever cancels."""

import pytest
import torch

from spectra.linalg.joint import JointSearch, KnownPairs, delta_of, fits_jointly
from spectra.linalg.krylov import gram_together, random_columns
from spectra.linalg.operators import Dense, LowRankUpdate
from spectra.linalg.triplets import search_together
from tests.planted import SPECTRA, base_matrix, random_update

SHAPES = ((160, 160), (320, 160), (160, 320))
K = 6


def updates(shape: tuple[int, int], kind: str) -> dict[str, LowRankUpdate]:
    """Updates of small rank: anywhere, along the leading vectors, and such as take a part of W0 away."""
    _, svd = base_matrix(*shape, kind, seed=3)
    U, S, Vh = svd.U[:, :4].float(), svd.S[:4].float(), svd.Vh[:4].float()
    return {
        "random": random_update(*shape, 4, 6.0, seed=8),
        "aligned": LowRankUpdate(U, 0.3 * S[:, None] * Vh),
        "removing": LowRankUpdate(U, -S[:, None] * Vh),
        "negating": LowRankUpdate(U, -2 * S[:, None] * Vh),
        "huge": random_update(*shape, 2, 1e4, seed=9),
        "none": LowRankUpdate(torch.zeros_like(U), Vh),
    }


def known_pairs(W0: torch.Tensor, count: int) -> KnownPairs | None:
    """Leading eigenpairs of the smaller Gram operator, as an earlier scan leaves them."""
    if not count:
        return None
    W = W0.double()
    values, vectors = torch.linalg.eigh(W @ W.mH if W.shape[0] <= W.shape[1] else W.mH @ W)
    X, values = vectors.flip(1)[:, :count].to(W0.dtype), values.flip(0)[:count]
    residual = gram_together(Dense(W0), [None], [X])[0] - X * values.to(X.dtype)
    return KnownPairs(X, values, float(torch.linalg.matrix_norm(residual)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize("count", [0, 8])
def test_a_space_of_w0_gives_the_leading_vectors_of_the_sum(shape: tuple[int, int], kind: str, count: int) -> None:
    W0, _ = base_matrix(*shape, kind, seed=3)
    known = known_pairs(W0, count)
    searches = {
        name: JointSearch(Dense(W0), update, delta_of(update), K, known=known, tolerance=1e-3)
        for name, update in updates(shape, kind).items()
    }
    search_together(Dense(W0), list(searches.values()))
    for name, search in searches.items():
        found, W = search.result(), (W0 + updates(shape, kind)[name].dense()).double()
        U, S, _ = torch.linalg.svd(W, full_matrices=False)
        # Of removed directions float32 leaves rounding of the largest singular value of W0 and of the update.
        assert torch.allclose(found.S.double(), S[:K], rtol=1e-4, atol=2e-5 * float(torch.linalg.matrix_norm(W0, 2))), (
            name
        )
        if found.converged:
            cosines = (U[:, :K] * found.U.double()).sum(dim=0).abs().clamp(max=1.0)
            sines = (1 - cosines**2).sqrt()
            assert bool((sines <= found.sin_angles + 2e-3)[~found.ill_conditioned].all()), name


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["random", "aligned", "removing", "negating", "huge", "none"])
@pytest.mark.parametrize("count", [0, 8])
def test_residuals_and_random_coordinates_are_those_of_the_sum(shape: tuple[int, int], name: str, count: int) -> None:
    W0 = base_matrix(*shape, "head and bulk", seed=3)[0].double()
    update = updates(shape, "head and bulk")[name].to(dtype=torch.float64, device="cpu")
    search = JointSearch(Dense(W0), update, delta_of(update), K, known=known_pairs(W0, count), tolerance=1e-3)
    for _ in range(3):
        search.run.advance(gram_together(Dense(W0), [None], [search.run.pending])[0])
    pairs = search.ritz()
    W = W0 + update.dense()
    H = W @ W.mH if shape[0] <= shape[1] else W.mH @ W
    vectors = search.run.ritz_vectors(pairs, pairs.values.shape[0])
    residuals = torch.linalg.vector_norm(H @ vectors - vectors * pairs.values, dim=0)
    scale = float(torch.linalg.matrix_norm(H, 2))
    assert torch.allclose(residuals, pairs.residuals, atol=1e-10 * scale + 1e-8)
    b = random_columns(pairs.random.shape[1], vectors, 0) * vectors.shape[0] ** 0.5
    assert torch.allclose(vectors.mH @ b, pairs.random, atol=1e-6)
    one = torch.eye(vectors.shape[1], dtype=torch.float64)
    assert torch.allclose(vectors.mH @ vectors, one, atol=1e-10)


def test_a_large_rank_or_a_small_matrix_takes_the_other_way() -> None:
    W0 = Dense(base_matrix(160, 160, "flat", seed=3)[0])
    assert fits_jointly(W0, delta_of(random_update(160, 160, 8, 1.0, seed=1)))
    assert not fits_jointly(W0, delta_of(random_update(160, 160, 20, 1.0, seed=1)))
    assert not fits_jointly(Dense(W0.W[:64]), delta_of(random_update(64, 160, 8, 1.0, seed=1)))
