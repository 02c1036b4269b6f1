"""Truncated factors and the bracket of their error, against float64 NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra.errors import SpectrumError
from spectra.linalg import truncation
from spectra.linalg.eckart_young import error_bracket, norm_bracket, possible_gain
from spectra.linalg.operators import Dense
from spectra.linalg.truncation import fixed_rank, leading_values, rank_of_energy, rank_of_error, truncated


def planted(shape: tuple[int, int], S: list[float] | np.ndarray, seed: int = 0) -> torch.Tensor:
    """A matrix with these singular values, in float64."""
    drawn = np.random.default_rng(seed)
    U, V = (np.linalg.qr(drawn.standard_normal((d, len(S))))[0] for d in shape)
    return torch.from_numpy((U * np.asarray(S)) @ V.T)


SPECTRA = {
    "planted in noise": lambda n: np.concatenate([[40, 30, 20, 12, 9], np.linspace(2, 0.01, n - 5)]),
    "decaying": lambda n: 1 / np.arange(1, n + 1),
    "flat": lambda n: np.ones(n),
    "steps of equal values": lambda n: np.repeat([8.0, 4.0, 2.0, 1.0], n // 4),
    "falling fast": lambda n: 0.7 ** np.arange(n),
}


@pytest.mark.parametrize("shape", [(96, 96), (700, 640), (560, 800)])
@pytest.mark.parametrize("name", SPECTRA)
def test_the_bracket_holds_eckart_youngs_error_and_the_error_is_the_factors_own(
    name: str, shape: tuple[int, int]
) -> None:
    D = planted(shape, SPECTRA[name](min(shape)))
    found = truncated(D.float(), fixed_rank(8))
    S = np.linalg.svd(D.numpy(), compute_uv=False)
    best = float(np.linalg.norm(S[8:]))
    own = float(np.linalg.norm(D.numpy() - found.B.double().numpy() @ found.A.double().numpy()))
    slack = 2e-6 * found.norm  # rounding of a float32 matrix
    assert found.rank == 8
    assert found.bracket.error == pytest.approx(own, abs=slack)
    assert found.bracket.least <= best + 1e-12 and best <= found.bracket.error + slack
    assert found.bracket.error - found.bracket.least <= 4e-3 * found.norm
    spectral = float(np.linalg.norm(D.numpy() - found.B.double().numpy() @ found.A.double().numpy(), 2))
    assert found.bracket.spectral_found - slack <= spectral <= found.bracket.spectral + 1e-12


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1e12, 1e25])
def test_the_bracket_holds_at_any_size_of_the_entries(size: float) -> None:
    """Squares of squares of such numbers leave the range of single precision."""
    D = planted((560, 530), np.concatenate([np.full(10, 30.0), np.linspace(2, 1, 520)])).float() * size
    S = np.linalg.svd(D.double().numpy(), compute_uv=False)
    found = truncated(D.clone(), fixed_rank(8))
    own = D.double() - found.B.double() @ found.A.double()
    slack = 2e-6 * float(np.linalg.norm(S))
    assert found.norm == pytest.approx(float(np.linalg.norm(S)), rel=1e-5)
    assert found.S[:8].tolist() == pytest.approx(S[:8].tolist(), rel=1e-4)
    assert found.bracket.error == pytest.approx(float(torch.linalg.vector_norm(own)), abs=slack)
    assert found.bracket.least <= float(np.linalg.norm(S[8:])) <= found.bracket.error + slack
    assert float(torch.linalg.matrix_norm(own, 2)) <= found.bracket.spectral * (1 + 1e-6)
    assert leading_values(D, 8)[:8].tolist() == pytest.approx(S[:8].tolist(), rel=1e-4)


@pytest.mark.parametrize(
    "S", [np.repeat([8.0, 4.0, 2.0, 1.0], 140), np.ones(560), 0.7 ** np.arange(560)], ids=["steps", "flat", "fast"]
)
def test_a_krylov_space_that_ends_too_early_is_not_the_last_word(S: np.ndarray) -> None:
    """More equal values than the block has columns, and values that their squares do not resolve."""
    D = planted((560, 600), S).float()
    found = truncated(D.clone(), fixed_rank(100))
    best = float(np.linalg.norm(np.linalg.svd(D.double().numpy(), compute_uv=False)[found.rank :]))
    assert found.rank == 100 or S[found.rank] < 2e-6 * found.norm
    assert best <= found.bracket.error + 1e-6 * found.norm
    assert found.bracket.error <= 1.02 * best + 2e-6 * found.norm
    assert found.bracket.least <= best


def test_a_small_gain_beside_a_large_matrix_is_not_lost_to_rounding() -> None:
    """U misses a direction of 1e-10 and holds one of 1e-12: no rank-2 matrix is within less than 1e-12 of D."""
    D = planted((60, 50), [300.0, 1e-10, 1e-12])
    left = torch.linalg.svd(D).U
    U = left[:, [0, 2]]
    A = U.mH @ D
    found = error_bracket(D - U @ A, A, float(torch.linalg.vector_norm(D)))
    assert found.least <= 1e-12


def test_a_large_matrix_takes_the_krylov_space_and_a_small_one_the_factorisation() -> None:
    assert truncated(planted((700, 640), SPECTRA["decaying"](640)).float(), fixed_rank(8)).method == "krylov"
    assert truncated(planted((96, 96), SPECTRA["decaying"](96)).float(), fixed_rank(8)).method == "svd"


def test_a_rank_that_is_no_low_rank_takes_the_factorisation() -> None:
    assert truncated(planted((520, 520), SPECTRA["flat"](520)).float(), fixed_rank(300)).method == "svd"


@pytest.mark.parametrize("n", [96, 640])
def test_a_planted_rank_is_found_and_no_more_is_written(n: int) -> None:
    D = planted((n, n), [5.0, 3.0, 1.0, 0.5])
    found = truncated(D.float(), fixed_rank(16))
    assert found.rank == 4
    assert found.S[:4].tolist() == pytest.approx([5, 3, 1, 0.5], rel=1e-5)
    assert found.bracket.error <= 2e-6 * found.norm


def test_the_factors_share_their_size_and_are_scaled_by_powers_of_two() -> None:
    found = truncated(planted((60, 50), 2.0 ** np.arange(0, -50, -1)).float(), fixed_rank(6))
    lengths = torch.linalg.vector_norm(found.B, dim=0)
    assert torch.log2(lengths).tolist() == pytest.approx(np.round(np.log2(lengths.numpy())).tolist(), abs=1e-5)
    ratio = lengths / torch.linalg.vector_norm(found.A, dim=1)
    assert float(ratio.min()) > 0.4 and float(ratio.max()) < 2.5


@pytest.mark.parametrize("n", [96, 640])
def test_the_rank_of_an_energy_is_the_smallest_that_keeps_it(n: int) -> None:
    S = SPECTRA["decaying"](n)
    found = truncated(planted((n, n), S).float(), rank_of_energy(0.9))
    kept = np.cumsum(S**2) / np.sum(S**2)
    assert found.rank == int(np.argmax(kept >= 0.9)) + 1


@pytest.mark.parametrize("n", [96, 640])
def test_the_rank_of_an_error_leaves_out_what_is_small_against_the_largest(n: int) -> None:
    found = truncated(planted((n, n), SPECTRA["decaying"](n)).float(), rank_of_error(0.099))
    assert found.rank == 10


def test_a_zero_matrix_has_rank_zero() -> None:
    found = truncated(torch.zeros(30, 20), fixed_rank(4))
    assert (found.rank, found.norm, found.bracket.error, found.bracket.least) == (0, 0.0, 0.0, 0.0)


def test_a_matrix_that_is_not_finite_is_refused() -> None:
    with pytest.raises(SpectrumError, match="1 entries that are NaN or infinite"):
        truncated(torch.tensor([[1.0, float("nan")]]), fixed_rank(1))


def test_leading_values_are_those_of_the_matrix() -> None:
    S = SPECTRA["falling fast"](640)
    found = leading_values(planted((640, 700), S).float(), 6)
    assert found[:6].tolist() == pytest.approx(S[:6].tolist(), rel=1e-4)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), rank=st.integers(1, 6), turned=st.booleans())
def test_no_other_factors_are_closer_than_the_bracket_says(seed: int, rank: int, *, turned: bool) -> None:
    """The bracket is that of any orthonormal U, also of one far from the leading vectors."""
    drawn = np.random.default_rng(seed)
    D = drawn.standard_normal((20, 30)) * np.exp(drawn.standard_normal(30))
    U = np.linalg.qr(drawn.standard_normal((20, rank)))[0]
    if not turned:
        U = np.linalg.qr(np.linalg.svd(D)[0][:, :rank] + 0.1 * U)[0]
    A = U.T @ D
    found = error_bracket(torch.from_numpy(D - U @ A), torch.from_numpy(A), float(np.linalg.norm(D)))
    best = float(np.linalg.norm(np.linalg.svd(D, compute_uv=False)[rank:]))
    assert found.least <= best * (1 + 1e-9)
    assert found.error >= best * (1 - 1e-9)


def test_factors_that_miss_the_leading_direction_are_seen_to_be_poor() -> None:
    """A planted direction that a bad search would never see: the bracket opens."""
    D = planted((200, 200), [10.0, *np.full(60, 1.0)])
    left, _, _ = torch.linalg.svd(D)
    U = left[:, 1:5]
    A = U.mH @ D
    found = error_bracket(D - U @ A, A, float(torch.linalg.vector_norm(D)))
    assert found.error == pytest.approx((100 + 56) ** 0.5, rel=1e-9)
    assert found.least <= 57**0.5 < found.error


def test_the_norm_is_bracketed_for_a_matrix_without_a_gap() -> None:
    torch.manual_seed(1)
    E = torch.randn(900, 800, dtype=torch.float64)
    low, high = norm_bracket(Dense(E), float(torch.linalg.vector_norm(E)))
    true = float(torch.linalg.matrix_norm(E, 2))
    assert low <= true <= high <= 1.1 * true


def test_exact_triplets_can_gain_nothing() -> None:
    D = planted((40, 40), [9.0, 7, 5, 3, 1])
    U, S, Vh = torch.linalg.svd(D)
    A = S[:3, None] * Vh[:3]
    assert possible_gain(D - U[:, :3] @ A, A)(float(S[3])) == pytest.approx(0, abs=1e-12)


def test_the_largest_krylov_space_is_a_share_of_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truncation, "LARGEST_SHARE", 0.01)
    found = truncated(planted((640, 640), SPECTRA["decaying"](640)).float(), fixed_rank(4))
    assert found.method == "svd"
