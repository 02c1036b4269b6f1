import math

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from spectra.errors import SpectrumError
from spectra.linalg.secular import Directions, directions_in_basis, random_directions, rank_one_leading
from spectra.linalg.svd import thin_svd
from spectra.metrics.thresholds import critical_sizes, first_crossings, outlier, random_critical_sizes
from tests import reference
from tests.planted import orthonormal


def _gaussian(d_out: int, d_in: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(d_out, d_in, generator=generator, dtype=torch.float64) / math.sqrt(d_in)


def _power_law(d_out: int, d_in: int, seed: int = 0, exponent: float = 0.5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    n = min(d_out, d_in)
    S = 10 * torch.arange(1, n + 1, dtype=torch.float64) ** -exponent
    return (orthonormal(d_out, n, generator) * S) @ orthonormal(d_in, n, generator).mH


RANDOM_SPECTRA = [
    pytest.param(make, shape, id=f"{make.__name__.strip('_')} {shape[0]}x{shape[1]}")
    for make, shape in (
        (_gaussian, (128, 128)),
        (_gaussian, (128, 384)),
        (_power_law, (128, 128)),
        (_power_law, (384, 128)),
    )
]


@pytest.mark.parametrize("shape", [(400, 400), (300, 600), (600, 300)])
def test_the_transform_agrees_with_the_closed_form_for_a_gaussian_matrix(shape: tuple[int, int]) -> None:
    """Benaych-Georges & Nadakuditi 2012, section 3.1, with entries of variance 1/d_in and c = d_out/d_in."""
    c, theta = shape[0] / shape[1], 2.5
    found = outlier(torch.linalg.svdvals(_gaussian(*shape)), shape, theta)
    assert found.singular_value == pytest.approx(math.sqrt((1 + theta**2) * (c + theta**2)) / theta, rel=0.01)
    assert found.left_overlap == pytest.approx(1 - c * (1 + theta**2) / (theta**2 * (theta**2 + c)), abs=0.02)
    assert found.right_overlap == pytest.approx(1 - (c + theta**2) / (theta**2 * (theta**2 + 1)), abs=0.02)


def test_the_transform_agrees_with_a_planted_spike_on_a_power_law() -> None:
    W0 = _power_law(300, 500)
    generator = torch.Generator().manual_seed(5)
    u, v = orthonormal(300, 1, generator), orthonormal(500, 1, generator)
    tuned = thin_svd(W0 + 16 * u @ v.mH)
    found = outlier(torch.linalg.svdvals(W0), (300, 500), 16.0)
    assert found.singular_value == pytest.approx(float(tuned.S[0]), rel=0.01)
    assert found.left_overlap == pytest.approx(float((tuned.U[:, 0] @ u[:, 0]) ** 2), abs=0.03)


@given(theta=st.floats(0.01, 50), scale=st.floats(0.1, 10))
def test_the_transform_is_bounded_turns_over_and_scales(theta: float, scale: float) -> None:
    S = torch.linspace(5, 1, 12, dtype=torch.float64)
    found, turned = outlier(S, (12, 20), theta), outlier(S, (20, 12), theta)
    assert 5 <= found.singular_value <= 5 + theta
    assert 0 <= found.left_overlap <= 1 + 1e-6
    assert turned.singular_value == pytest.approx(found.singular_value)
    assert (turned.left_overlap, turned.right_overlap) == pytest.approx((found.right_overlap, found.left_overlap))
    assert outlier(scale * S, (12, 20), scale * theta).singular_value == pytest.approx(scale * found.singular_value)


@pytest.mark.parametrize(("make", "shape"), RANDOM_SPECTRA)
def test_the_count_leaves_zero_where_the_equation_says(make, shape: tuple[int, int]) -> None:  # type: ignore[no-untyped-def]
    """Two factorisations of the definition just below and just above the predicted size of the planted update."""
    W0 = make(*shape)
    generator = torch.Generator().manual_seed(11)
    u, v = orthonormal(shape[0], 1, generator), orthonormal(shape[1], 1, generator)
    base = thin_svd(W0)
    [size] = critical_sizes(base.S, directions_in_basis(base, u, v.mH), k=10, epsilon=0.5).tolist()
    below, above = (W0 + factor * size * (u @ v.mH) for factor in (0.995, 1.001))
    assert reference.count_intruders(W0.numpy(), below.numpy(), 10, 0.5) == 0
    assert reference.count_intruders(W0.numpy(), above.numpy(), 10, 0.5) >= 1


@pytest.mark.parametrize(("make", "shape"), RANDOM_SPECTRA[1:3])
def test_the_median_predicts_planted_updates_of_growing_scale_within_ten_per_cent(
    make,  # type: ignore[no-untyped-def]
    shape: tuple[int, int],
) -> None:
    """Prediction from singular values alone against random rank-1 updates grown until the definition counts one.

    Single updates scatter by tens of per cent at these widths, so medians are compared, over enough draws that their
    own sampling error stays below 5 %.
    """
    W0 = make(*shape)
    S0 = torch.linalg.svdvals(W0)
    predicted = float(random_critical_sizes(S0, shape, k=10, epsilon=0.5, draws=101, seed=1).median())
    measured = [_measured(S0.numpy(), shape, seed) for seed in range(31)]
    assert predicted == pytest.approx(float(np.median(measured)), rel=0.1)


def _measured(S0: np.ndarray, shape: tuple[int, int], seed: int) -> float:
    """Grow a random update by 2 % at a time until NumPy's factorisation shows an intruder.

    W0 is taken in its own singular basis, which changes no cosine; there its left vectors are the unit vectors. What
    stands outside the basis is one coordinate long after a rotation. The last step is halved: the crossing lies in it.
    """
    drawn = np.random.default_rng(1000 + seed)
    u, v = (drawn.standard_normal(d) for d in shape)
    n = len(S0)
    u, v = (np.append(x[:n], np.linalg.norm(x[n:])) / np.linalg.norm(x) for x in (u, v))
    W0 = np.zeros((n + 1, n + 1))
    W0[:n, :n] = np.diag(S0)
    size = 0.5 * S0[9]
    while True:
        U = np.linalg.svd(W0 + size * np.outer(u, v))[0]
        if (np.abs(U[:n, :10]).max(axis=0) < 0.5).any():
            return float(size / 1.01)
        size *= 1.02


@settings(max_examples=4, phases=[Phase.explicit, Phase.generate])
@given(seed=st.integers(0, 100), scale=st.sampled_from([0.25, 8.0]))  # exact in binary: the same search is repeated
def test_sizes_scale_with_the_spectrum_and_do_not_depend_on_signs(seed: int, scale: float) -> None:
    S0 = torch.linspace(4, 1, 30, dtype=torch.float64)
    directions = random_directions((40, 30), 3, torch.Generator().manual_seed(seed))
    turned = Directions(-directions.u, -directions.v, directions.u_outside, directions.v_outside)
    sizes = critical_sizes(S0, directions, k=5, epsilon=0.5)
    assert torch.allclose(critical_sizes(S0, turned, k=5, epsilon=0.5), sizes)
    assert torch.allclose(critical_sizes(scale * S0, directions, k=5, epsilon=0.5), scale * sizes)


def test_a_direction_that_w0_already_has_never_makes_an_intruder() -> None:
    S0 = torch.linspace(9, 1, 30, dtype=torch.float64)
    e = torch.eye(30, dtype=torch.float64)[:1]
    none = torch.zeros(1, dtype=torch.float64)
    assert critical_sizes(S0, Directions(e, e, none, none), k=10, epsilon=0.5).tolist() == [math.inf]


@pytest.mark.parametrize("seed", range(4))
def test_no_size_before_the_critical_one_has_an_intruder(seed: int) -> None:
    """A fine grid, four times finer than the search's steps: windows between two steps are not passed over."""
    S0 = 10 * torch.arange(1, 61, dtype=torch.float64) ** -0.5
    directions = random_directions((60, 60), 4, torch.Generator().manual_seed(seed))
    sizes = critical_sizes(S0, directions, k=10, epsilon=0.5)
    for one, size in enumerate(sizes.tolist()):
        start = 0.3 * float(S0[9])
        fine = start * 1.012 ** torch.arange(math.floor(math.log(min(size, 60.0) / start / 1.003) / math.log(1.012)))
        cosines = rank_one_leading(S0, directions[torch.full((len(fine),), one)], fine.double(), 10).max_cosines
        assert not bool((cosines < 0.5).any())


def test_the_first_crossing_is_found_although_the_condition_fails_again_later() -> None:
    found = first_crossings(lambda values, which: ((values > 2) & (values < 3)) | (values > 8), 1, 0.1, 20.0)
    assert found.tolist() == pytest.approx([2.0], rel=2e-3)
    assert first_crossings(lambda values, which: values > which + 50, 2, 0.1, 20.0).tolist() == [math.inf, math.inf]


def test_the_same_seed_gives_the_same_sizes() -> None:
    S0 = torch.linspace(4, 1, 30, dtype=torch.float64)
    first, again, other = (random_critical_sizes(S0, (30, 40), k=5, epsilon=0.5, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first, first.sort().values)


def test_input_without_meaning_is_named() -> None:
    S = torch.linspace(4, 1, 30, dtype=torch.float64)
    with pytest.raises(SpectrumError, match=r"size of an update is 0.0.*positive"):
        outlier(S, (30, 40), 0.0)
    with pytest.raises(SpectrumError, match=r"30 singular values were given for a 40 x 50 matrix, which has 40"):
        random_critical_sizes(S, (40, 50), k=5, epsilon=0.5)
    with pytest.raises(SpectrumError, match="only zero singular values"):
        random_critical_sizes(torch.zeros(30), (30, 40), k=5, epsilon=0.5)
    with pytest.raises(SpectrumError, match=r"epsilon is 0\.0"):
        random_critical_sizes(S, (30, 40), k=5, epsilon=0.0)
