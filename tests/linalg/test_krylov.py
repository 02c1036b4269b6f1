import torch

from spectra.linalg.krylov import BlockLanczos, gram_together
from spectra.linalg.operators import Dense
from tests.planted import base_matrix, random_update


def run_lanczos(W: torch.Tensor, start: torch.Tensor, steps: int, locked: torch.Tensor | None = None) -> BlockLanczos:
    run = BlockLanczos(start, locked)
    for _ in range(steps):
        run.advance(gram_together(Dense(W), [None], [run.pending])[0])
    return run


def test_the_basis_stays_orthonormal_in_float32_over_many_steps() -> None:
    W, _ = base_matrix(200, 300, "head and bulk", seed=0)
    run = run_lanczos(W, torch.randn(200, 6), 12)
    gram = run.basis.mH @ run.basis
    assert run.basis.shape == (200, 72)
    # Twice-repeated Gram-Schmidt keeps float32 orthogonality to a few roundings.
    assert float((gram - torch.eye(72)).abs().max()) < 1e-5


def test_the_lanczos_relation_holds_with_the_coupling_that_is_reported() -> None:
    W, _ = base_matrix(150, 150, "power law", seed=1)
    W = W.double()
    run = run_lanczos(W, torch.randn(150, 5, dtype=torch.float64), 6)
    pairs = run.ritz()
    H = W @ W.mH
    vectors = run.basis @ pairs.vectors
    residual = H @ vectors - vectors * pairs.values
    assert torch.allclose(torch.linalg.vector_norm(residual, dim=0), pairs.residuals, atol=1e-9 * pairs.values[0])
    assert torch.allclose(run.pending @ pairs.coupling, residual, atol=1e-9 * float(pairs.values[0]))


def test_the_start_block_is_the_first_block_times_its_coordinates() -> None:
    start = torch.randn(40, 4, dtype=torch.float64)
    run = BlockLanczos(start)
    assert torch.allclose(run.pending @ run.start_coordinates, start)


def test_a_start_inside_an_invariant_space_exhausts_it_without_inventing_directions() -> None:
    _, base = base_matrix(60, 90, "head and bulk", seed=2)
    run = run_lanczos(base.to_dense(), base.U[:, :5] @ torch.randn(5, 3, dtype=torch.float64), 10)
    assert run.exhausted
    assert run.basis.shape[1] == 5
    assert torch.allclose(run.ritz().values, base.S[:5] ** 2, rtol=1e-5)


def test_locked_directions_stay_out_of_the_space() -> None:
    W, base = base_matrix(80, 80, "head and bulk", seed=3)
    locked = base.U[:, :16].float()
    run = run_lanczos(W, torch.randn(80, 4), 6, locked)
    assert float((locked.mH @ run.basis).abs().max()) < 1e-4
    assert float(run.ritz().values[0]) < 1.01 * float(base.S[16] ** 2)


def test_products_shared_by_several_updates_equal_separate_ones() -> None:
    for shape in ((30, 50), (50, 30)):
        W, _ = base_matrix(*shape, "power law", seed=4)
        updates = [None, random_update(*shape, 3, 5.0, 0), random_update(*shape, 2, 1.0, 1)]
        blocks = [torch.randn(30, width) for width in (2, 3, 4)]
        for update, block, product in zip(updates, blocks, gram_together(Dense(W), updates, blocks), strict=True):
            tuned = W if update is None else W + update.dense()
            H = tuned @ tuned.mH if shape[0] < shape[1] else tuned.mH @ tuned
            assert torch.allclose(product, H @ block, rtol=1e-4, atol=1e-3)
