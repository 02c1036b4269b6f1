import pytest
import torch

from spectra.linalg.angles import angle_bounds
from spectra.linalg.krylov import BlockLanczos, gram_together
from spectra.linalg.operators import Dense, LowRankUpdate
from spectra.linalg.triplets import clustered, leading_vectors
from tests.planted import SPECTRA, base_matrix, random_update

SHAPES = ((160, 160), (320, 160), (160, 320))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize("size", [0.05, 4.0, 60.0])
def test_leading_vectors_are_within_their_angle_bound_of_the_true_ones(
    shape: tuple[int, int], kind: str, size: float
) -> None:
    W, _ = base_matrix(*shape, kind, seed=7)
    update = random_update(*shape, 4, size, seed=8)
    [found] = leading_vectors(Dense(W), [update], 8)
    U, S, _ = torch.linalg.svd((W + update.dense()).double(), full_matrices=False)
    assert torch.allclose(found.S.double(), S[:8], rtol=1e-4)
    if not found.converged:
        return
    cosines = (U[:, :8] * found.U.double()).sum(dim=0).abs().clamp(max=1.0)
    sines = (1 - cosines**2).sqrt()
    # 2e-3: the float32 rounding of the columns and of the reference's own input.
    assert bool((sines <= found.sin_angles + 2e-3)[~found.ill_conditioned].all())


def test_most_matrices_converge() -> None:
    converged = [
        leading_vectors(Dense(base_matrix(*shape, kind, 1)[0]), [random_update(*shape, 4, 5.0, 2)], 8)[0].converged
        for shape in SHAPES
        for kind in ("head and bulk", "power law", "flat")
    ]
    assert all(converged)


def test_a_warm_start_needs_fewer_passes() -> None:
    W, base = base_matrix(400, 400, "head and bulk", seed=3)
    update = random_update(400, 400, 4, 20.0, seed=4)
    [cold] = leading_vectors(Dense(W), [update], 10)
    [warm] = leading_vectors(Dense(W), [update], 10, warm=base.U[:, :16].float())
    assert warm.converged
    assert warm.passes < cold.passes


def test_equal_singular_values_are_flagged() -> None:
    S = torch.tensor([5.0, 4.0, 4.0, 3.0, 2.0])
    assert clustered(S, 4, torch.float32).tolist() == [False, True, True, False]


def test_vectors_of_a_null_space_are_never_taken_for_known_singular_vectors() -> None:
    W, _ = base_matrix(144, 144, "rank deficient", seed=3)
    run = BlockLanczos(torch.randn(144, 8, generator=torch.Generator().manual_seed(0)))
    for _ in range(10):
        run.advance(gram_together(Dense(W), [None], [run.pending])[0])
    pairs = run.ritz()
    null = pairs.values < 1e-5 * pairs.values[0]
    assert bool(null.any())
    assert bool((angle_bounds(pairs, pairs.values.shape[0], torch.float32)[null] == 1).all())


@pytest.mark.parametrize(("k", "seed"), [(10, 3), (8, 5), (8, 7), (8, 8)])
def test_a_search_goes_on_until_its_proven_angles_are_as_small_as_they_have_to_be(k: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    U, V = (torch.linalg.qr(torch.randn(300, 300, generator=generator))[0] for _ in range(2))
    S = torch.cat([40 / torch.arange(1, 25).sqrt(), torch.linspace(6, 0.1, 276)])
    [found] = leading_vectors(Dense((U * S) @ V.mH), [None], k, tolerance=3e-3, seed=seed)
    assert found.converged


@pytest.mark.parametrize("head", [5.0, 30.0, 100.0])
@pytest.mark.parametrize("start", ["cold", "warm"])
def test_angles_hold_where_one_singular_value_is_far_above_the_others(head: float, start: str) -> None:
    """In float32 the Gram operator leaves a rounding of its largest eigenvalue, whichever vector is asked for."""
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        U, V = (torch.linalg.qr(torch.randn(120, 120, generator=generator).double())[0] for _ in range(2))
        S = torch.cat([torch.tensor([head]), 1 / torch.arange(1, 25).sqrt(), torch.linspace(0.15, 0.01, 95)]).double()
        W = ((U * S) @ V.mH).float()
        true = torch.linalg.svd(W.double()).U[:, :8]
        warm = true.float() if start == "warm" else None
        [found] = leading_vectors(Dense(W), [None], 8, tolerance=5e-5, warm=warm)
        cosines = (true * found.U.double()).sum(dim=0)
        sines = torch.linalg.vector_norm(found.U.double() - true * cosines, dim=0)
        assert not found.converged or bool((sines <= found.sin_angles + 1e-6).all())


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_rounding_is_that_of_an_update_which_takes_the_head_of_w0_away(seed: int) -> None:
    W0, svd = base_matrix(160, 160, "head and bulk", seed)
    head = svd.U[:, :1] * svd.S[0] @ svd.Vh[:1]
    W0 = (W0.double() + 999 * head).float()
    update = LowRankUpdate(svd.U[:, :1].float(), (-1000 * svd.S[0] * svd.Vh[:1]).float())
    [found] = leading_vectors(Dense(W0), [update], 6)
    true = torch.linalg.svd(W0.double() + update.B.double() @ update.A.double()).U[:, :6]
    cosines = (true * found.U.double()).sum(dim=0)
    sines = torch.linalg.vector_norm(found.U.double() - true * cosines, dim=0)
    assert bool((sines <= found.sin_angles).all())
