"""All eigenpairs of a Gram matrix in float32 bracket the cosines of float64."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra.errors import SpectrumError
from spectra.linalg.gram_spectrum import gram_spectrum, small_leading_vectors
from spectra.linalg.joint import change_of
from spectra.linalg.krylov import RitzPairs
from spectra.linalg.operators import Dense
from spectra.linalg.svd import SVD
from spectra.linalg.triplets import CLUSTER_ROUNDINGS, leading_within
from tests.planted import SPECTRA, base_matrix

SHAPES = ((90, 90), (90, 150), (150, 90))


def test_the_cosines_of_a_diagonal_matrix_are_read_off() -> None:
    spectrum = gram_spectrum(Dense(torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0]))))
    y = torch.tensor([[0.6], [0.0], [0.8], [0.0]])
    found = spectrum.brackets(y)
    torch.testing.assert_close(spectrum.values, torch.tensor([16.0, 9.0, 4.0, 1.0], dtype=torch.float64))
    # The slack is a few dozen roundings of 16, against gaps of at least 3.
    assert 0.8 - 1e-4 < float(found.lower) <= 0.8 + 1e-6
    assert 0.8 - 1e-6 <= float(found.known) < 0.8 + 1e-4
    assert float(found.rest) == 0


@given(
    shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(SPECTRA),
    mixed=st.integers(1, 60),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=60)
def test_the_brackets_hold_the_largest_cosine(shape: tuple[int, int], kind: str, mixed: int, seed: int) -> None:
    W0, _ = base_matrix(*shape, kind, seed)
    U, S, _ = torch.linalg.svd(W0.double(), full_matrices=False)
    generator = torch.Generator().manual_seed(seed)
    near = U[:, :mixed] @ torch.randn(mixed, 4, generator=generator, dtype=torch.float64) ** 3
    Y = torch.nn.functional.normalize(near, dim=0).float()
    tall = shape[0] > shape[1]
    found = gram_spectrum(Dense(W0)).brackets(W0.mH @ Y if tall else Y, right_space=tall)
    cosines = (U.mH @ Y.double()).abs()
    # Vectors of equal singular values are any basis of their space: the bounds are held to those that are defined.
    gaps = torch.cat([S[:1] * math.inf, S[:-1] - S[1:], S[:1] * math.inf])
    defined = torch.minimum(gaps[:-1], gaps[1:]) > 1e-4 * S[0]
    if bool(defined.any()):
        # y itself is of length 1 to float32 rounding only.
        assert bool((cosines[defined].max(dim=0).values <= torch.maximum(found.known, found.rest) + 1e-6).all())
    assert bool((found.lower <= cosines.max(dim=0).values + 1e-6).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_spectrum_without_clusters_is_bracketed_closely(shape: tuple[int, int]) -> None:
    W0, _ = base_matrix(*shape, "head and bulk", 1)
    Y = torch.linalg.svd(W0 + 0.05 * torch.randn(shape, generator=torch.Generator().manual_seed(2))).U[:, :6]
    tall = shape[0] > shape[1]
    found = gram_spectrum(Dense(W0)).brackets(W0.mH @ Y if tall else Y, right_space=tall)
    true = (torch.linalg.svd(W0.double(), full_matrices=False).U.mH @ Y.double()).abs().max(dim=0).values
    torch.testing.assert_close(found.lower, true, atol=1e-2, rtol=0)
    torch.testing.assert_close(torch.maximum(found.known, found.rest), true, atol=1e-2, rtol=0)


@given(
    shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(SPECTRA),
    k=st.integers(1, 20),
    scale=st.sampled_from([1e-12, 1.0, 1e12]),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=80)
def test_leading_vectors_lie_within_their_stated_angle(
    shape: tuple[int, int], kind: str, k: int, scale: float, seed: int
) -> None:
    W = base_matrix(*shape, kind, seed)[0] * scale
    U, S, _ = torch.linalg.svd(W.double(), full_matrices=False)
    found = gram_spectrum(Dense(W)).leading(Dense(W), k)
    gaps = torch.cat([S[:1] * math.inf, S[:-1] - S[1:], S[:1] * math.inf])
    clear = torch.minimum(gaps[:-1], gaps[1:])[:k] / S[0]
    equal = CLUSTER_ROUNDINGS * torch.finfo(torch.float32).eps
    # Never clear where the exact method would call two values equal, and always where they are far from it.
    assert bool((clear[~found.ill_conditioned] > equal).all())
    assert not bool((found.ill_conditioned & (clear * S[:k] / S[0] > 10 * equal)).any())
    sines = (1 - (U[:, :k] * found.U.double()).sum(dim=0).square()).clamp_min(0).sqrt()
    told = ~found.ill_conditioned
    # 1 - cos^2 of unit vectors in float32 is known to the square root of its rounding only.
    assert bool((sines[told] <= found.sin_angles[told] + 1e-3).all())
    cross = (U.mH @ found.U.double()).abs()
    cross[torch.arange(k), torch.arange(k)] = 0.0
    across = torch.linalg.vector_norm(cross, dim=0)
    assert bool((across[told] <= found.sin_angles[told] + 1e-5).all())
    assert found.converged == bool(told.all())
    if found.count is not None and found.converged:
        assert int((S.square() > found.count.limit).sum()) == found.count.number == k


def test_a_search_goes_on_where_the_eigenpairs_are_too_coarse() -> None:
    W, svd = base_matrix(120, 150, "power law", 4)
    coarse = gram_spectrum(Dense(W)).leading(Dense(W), 20)
    tolerance = float(coarse.sin_angles.max()) / 4
    found = small_leading_vectors(Dense(W), 20, tolerance)
    assert found.converged and float(found.sin_angles.max()) <= tolerance
    assert bool(((found.U.double() * svd.U[:, :20].double()).sum(dim=0).abs() > 1 - 1e-6).all())
    again = small_leading_vectors(Dense(W), 20, 1e-2)
    torch.testing.assert_close(again.sin_angles, coarse.sin_angles)


def test_equal_singular_values_pool_their_mass_and_prove_no_lower_bound() -> None:
    found = gram_spectrum(Dense(torch.diag(torch.tensor([3.0, 2.0, 2.0, 1.0])))).brackets(
        torch.tensor([[0.0], [0.6], [0.8], [0.0]])
    )
    assert float(found.lower) == 0
    assert float(found.rest) >= 1


def test_nothing_is_proven_of_a_vector_whose_singular_value_may_be_zero() -> None:
    W0 = torch.zeros(6, 4)
    W0[:3, :3] = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    y = torch.eye(6)[:, 5:]
    assert float(gram_spectrum(Dense(W0)).brackets(W0.mH @ y, right_space=True).upper) == 1


def test_the_neighbourhood_holds_the_leading_vectors_of_an_updated_matrix() -> None:
    W0, _ = base_matrix(120, 160, "power law", 3)
    generator = torch.Generator().manual_seed(4)
    B, A = torch.randn(120, 2, generator=generator), torch.randn(2, 160, generator=generator)
    W = W0 + 0.02 * B @ A
    basis = gram_spectrum(Dense(W0)).neighbourhood(torch.cat([B, W0 @ A.mH], dim=1), 40)
    torch.testing.assert_close(basis.mH @ basis, torch.eye(basis.shape[1]), atol=1e-4, rtol=0)
    found = leading_within(Dense(W), basis, 3)
    true = torch.linalg.svd(W).U[:, :3]
    # The fourth power of the ratio of the singular values left out to the leading ones.
    torch.testing.assert_close((found * true).sum(dim=0).abs(), torch.ones(3), atol=1e-3, rtol=0)


def test_a_matrix_that_is_not_finite_is_refused() -> None:
    with pytest.raises(SpectrumError, match=r"A \(2, 2\) matrix has 1 entries that are NaN or infinite"):
        gram_spectrum(Dense(torch.tensor([[1.0, 2.0], [float("nan"), 1.0]])))


@pytest.mark.parametrize("shape", [(160, 160), (320, 160), (160, 320)])
@pytest.mark.parametrize("kind", SPECTRA)
@pytest.mark.parametrize("factor", [0.5, -1.0, -2.0, 40.0])
def test_the_count_of_a_changed_matrix_is_never_less_than_the_truth(
    shape: tuple[int, int], kind: str, factor: float
) -> None:
    """Updates along leading vectors of W0, which add to them or take them away, and across."""
    W0, svd = base_matrix(*shape, kind, seed=2)
    generator = torch.Generator().manual_seed(3)
    mix = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64))[0]
    for turned in (torch.eye(4, dtype=torch.float64), mix):
        S = svd.S[:4] * abs(factor)
        U = svd.U[:, :4] * (1 if factor > 0 else -1)
        delta = SVD(U.float(), S.float(), (turned @ svd.Vh[:4]).float())
        W = W0.double() + delta.to_dense().double()
        true = torch.linalg.svdvals(W) ** 2
        spectrum, change = gram_spectrum(Dense(W0)), change_of(Dense(W0), delta)
        H = W @ W.mH if shape[0] <= shape[1] else W.mH @ W
        values, vectors = torch.linalg.eigh(H)
        nothing = torch.zeros(1, values.shape[0], dtype=torch.float64)
        pairs = RitzPairs(values.flip(0), vectors.flip(1), nothing, float(values[-1]), nothing.mH, values.shape[0])
        for k in (1, 3, 6, 12):
            count = spectrum.counted_with(*change, delta.S, pairs, k)
            if count is not None:
                assert int((true > count.limit).sum()) <= count.number <= k + 4
                assert count.limit < float(true[k - 1])
