import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad

from spectra.metrics.marchenko_pastur import bulk_edge, noise_level, spikes
from tests.planted import orthonormal


def noise(d_out: int, d_in: int, seed: int) -> torch.Tensor:
    return torch.randn(d_out, d_in, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_edge_of_unit_noise_is_the_sum_of_the_roots() -> None:
    assert bulk_edge(1.0, (9, 16)) == pytest.approx(7.0)


@pytest.mark.parametrize("shape", [(200, 200), (400, 200), (200, 500)])
def test_pure_noise_is_recognised_with_its_size_and_has_hardly_a_spike(shape: tuple[int, int]) -> None:
    S = torch.linalg.svdvals(0.3 * noise(*shape, seed=0))
    sigma = noise_level(S, shape)
    # The median of n = 200 values scatters by about 1 / n.
    assert sigma == pytest.approx(0.3, rel=0.02)
    assert spikes(S, bulk_edge(sigma, shape)) <= 2


def test_planted_spikes_above_the_edge_are_counted() -> None:
    generator = torch.Generator().manual_seed(1)
    U, V = orthonormal(200, 5, generator), orthonormal(300, 5, generator)
    S = torch.linalg.svdvals(noise(200, 300, seed=2) + 80 * U @ V.mH)
    assert spikes(S, 1.02 * bulk_edge(noise_level(S, (200, 300)), (200, 300))) == 5


@given(scale=st.floats(0.01, 100), seed=st.integers(0, 10))
def test_the_level_scales_with_the_matrix_and_forgets_its_orientation(scale: float, seed: int) -> None:
    S = torch.linalg.svdvals(noise(30, 20, seed))
    assert noise_level(scale * S, (30, 20)) == pytest.approx(scale * noise_level(S, (20, 30)))


def test_weights_stand_for_repeated_values() -> None:
    S = torch.linalg.svdvals(noise(40, 40, seed=3))
    twice = S.repeat_interleave(2)
    weighted = noise_level(S, (40, 40), weights=torch.full_like(S, 2.0))
    # The median of doubled values lies within one spacing of the weighted one.
    assert weighted == pytest.approx(noise_level(twice, (40, 40)), rel=0.05)
    assert spikes(S, float(S[4]), torch.full_like(S, 2.0)) == 8


def test_a_matrix_of_rank_one_has_no_noise_and_one_spike() -> None:
    S = torch.tensor([3.0, 0.0, 0.0, 0.0])
    assert noise_level(S, (4, 4)) == 0.0
    assert spikes(S, bulk_edge(0.0, (4, 4))) == 1
    assert math.isfinite(noise_level(torch.tensor([2.0]), (1, 7)))


@pytest.mark.parametrize("beta", [1.0, 0.5, 0.1, 0.01])
def test_the_median_halves_the_law(beta: float) -> None:
    """The mass of the density sqrt((b - x)(x - a)) / (2 pi beta x) below the median, by adaptive quadrature."""
    low, high = (1 - math.sqrt(beta)) ** 2, (1 + math.sqrt(beta)) ** 2
    # noise_level of one value m in a square of sides d and beta d is m / sqrt(d mu): with m = d = 1 it is mu^(-1/2).
    sides = (1000, round(1000 * beta))
    median = (1 / noise_level(torch.ones(1, dtype=torch.float64), sides)) ** 2 / max(sides)

    def density(root: float) -> float:
        x = low + root**2  # takes the square root at the lower edge out
        return math.sqrt(max(high - x, 0.0)) * root / (2 * math.pi * beta * x) * 2 * root if x > 0 else 0.0

    below, _ = quad(density, 0, math.sqrt(median - low), epsabs=1e-12)
    assert below == pytest.approx(0.5, abs=1e-7)
