"""The edit on matrices, against the dense formula in float64 NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from spectra.errors import SpectrumError
from spectra.interventions import leading_triplets, scaled_directions, truncated
from spectra.interventions.directions import frobenius
from spectra.linalg.operators import Dense, LowRankUpdate
from tests import reference
from tests.planted import base_matrix, orthonormal, random_update

# Small enough for the thin SVD, wide and tall enough for the Krylov method at k = 3.
SHAPES = [(24, 40), (40, 24), (160, 96), (96, 160)]


def dense_formula(W: np.ndarray, chosen: tuple[int, ...], lam: float) -> np.ndarray:
    """W + (lambda - 1) sum u_j sigma_j v_j^T, word for word."""
    U, S, Vh = np.linalg.svd(W.astype(np.float64), full_matrices=False)
    edited = W.astype(np.float64)
    for j in chosen:
        edited = edited + (lam - 1) * S[j] * np.outer(U[:, j], Vh[j])
    return edited


def relative(found: Tensor, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found.double().numpy() - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("lam", [0.0, 0.7, 1.0, 1.5])
def test_the_edited_matrix_equals_the_dense_formula(shape: tuple[int, int], lam: float) -> None:
    W0, _ = base_matrix(*shape, "head and bulk", seed=1)
    update = random_update(*shape, rank=3, size=40.0, seed=2)
    triplets = leading_triplets(Dense(W0), update, 3)
    edited = W0 + update.plus(scaled_directions(triplets, (0, 2), lam)).dense()
    # Krylov vectors lie within an angle of 1e-3 of the true ones; here they settle far below.
    assert relative(edited, dense_formula((W0 + update.dense()).numpy(), (0, 2), lam)) < 1e-5


def test_by_hand_a_diagonal_matrix_loses_the_chosen_entry() -> None:
    W0 = torch.diag(torch.tensor([3.0, 1.0]))
    update = LowRankUpdate(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0, 4.0]]))
    triplets = leading_triplets(Dense(W0), update, 2)
    edit = scaled_directions(triplets, (0,), 0.5).dense()
    torch.testing.assert_close(edit, torch.tensor([[0.0, 0.0], [0.0, -2.5]]))


@pytest.mark.parametrize("shape", SHAPES)
def test_lambda_one_is_an_edit_of_nothing(shape: tuple[int, int]) -> None:
    W0, _ = base_matrix(*shape, "power law", seed=3)
    update = random_update(*shape, rank=2, size=30.0, seed=4)
    edit = scaled_directions(leading_triplets(Dense(W0), update, 2), (0, 1), 1.0)
    assert float(edit.dense().abs().max()) == 0
    torch.testing.assert_close(update.plus(edit).dense(), update.dense(), atol=0, rtol=0)


def test_a_planted_intruder_is_lost_and_nothing_else() -> None:
    W0, base = base_matrix(96, 96, "head and bulk", seed=5)
    generator = torch.Generator().manual_seed(6)
    spread = base.U @ torch.randn(96, generator=generator, dtype=torch.float64).sign() / 96**0.5
    v = orthonormal(96, 1, generator)
    bulk = base.U[:, 2:6] @ torch.diag(torch.tensor([2.0, 1.5, 1.0, 0.5], dtype=torch.float64))
    B = torch.cat([60 * spread[:, None], bulk], dim=1).float()
    A = torch.cat([v.mH, base.Vh[2:6]]).float()
    update = LowRankUpdate(B, A)
    W = (W0 + update.dense()).numpy()
    assert reference.count_intruders(W0.numpy(), W, 10, 0.5) == 1
    triplets = leading_triplets(Dense(W0), update, 1)
    edited = W0 + update.plus(scaled_directions(triplets, (0,), 0.0)).dense()
    assert reference.count_intruders(W0.numpy(), edited.numpy(), 10, 0.5) == 0
    before, after = (np.linalg.svd(M.astype(np.float64), compute_uv=False) for M in (W, edited.numpy()))
    # All other singular values are those of W_tuned, shifted up by one place. Krylov vectors may err by an angle
    # of 1e-3; here about 1e-5 of the removed value of 66.
    np.testing.assert_allclose(after[:95], before[1:], atol=1e-3)
    assert after[95] < 1e-3


def test_truncation_is_the_best_approximation_and_states_what_it_loses() -> None:
    generator = torch.Generator().manual_seed(7)
    B, A = torch.randn(20, 5, generator=generator), torch.randn(5, 30, generator=generator)
    update = LowRankUpdate(B, A, -0.5)
    small, lost = truncated(update, 2)
    dense = update.dense().double().numpy()
    S = np.linalg.svd(dense, compute_uv=False)
    assert small.rank == 2
    assert small.scaling == -0.5
    assert lost == pytest.approx((S[2:] ** 2).sum() / (S**2).sum(), rel=1e-5)
    distance = np.linalg.norm(dense - small.dense().double().numpy())
    assert distance == pytest.approx((S[2:] ** 2).sum() ** 0.5, rel=1e-5)
    assert truncated(update, 5) == (update, 0.0)


def test_the_norm_of_factors_is_the_norm_of_their_product() -> None:
    update = random_update(30, 20, rank=4, size=3.0, seed=8)
    assert frobenius(update) == pytest.approx(float(np.linalg.norm(update.dense().double().numpy())), rel=1e-6)


@pytest.mark.parametrize("lam", [-0.1, 2.5, float("nan")])
def test_a_factor_outside_its_range_is_refused(lam: float) -> None:
    triplets = leading_triplets(Dense(torch.eye(4)), LowRankUpdate(torch.ones(4, 1), torch.ones(1, 4)), 1)
    with pytest.raises(SpectrumError, match=r"lambda is .*, outside \[0, 2\]. Use 0 to remove"):
        scaled_directions(triplets, (0,), lam)
