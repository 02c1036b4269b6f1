import math

import numpy as np
import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from spectra.errors import SpectrumError
from spectra.linalg.secular import Directions, directions_in_basis, random_directions
from spectra.linalg.svd import thin_svd
from spectra.metrics.thresholds import critical_sizes, outlier, random_critical_sizes
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
    below, above = (W0 + factor * size * (u @ v.mH) for factor in (0.9999, 1.0001))
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
    measured = [_measured(S0, shape, seed) for seed in range(31)]
    assert predicted == pytest.approx(float(np.median(measured)), rel=0.1)


def _measured(S0: torch.Tensor, shape: tuple[int, int], seed: int) -> float:
    """Grow a random update by 2 % at a time until NumPy shows an intruder; the crossing lies in the last step."""
    directions = random_directions(shape, 1, torch.Generator().manual_seed(1000 + seed))
    size = 0.5 * float(S0[9])
    while not _counts(S0, directions, 0, size, 10, 0.5):
        size *= 1.02
    return size / 1.01


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


def _line(first: float, last: float, count: int) -> torch.Tensor:
    return torch.linspace(first, last, count, dtype=torch.float64)


SPREADING = torch.arange(8, dtype=torch.float64).flip(0)
HARD = {
    "power law": 10 * torch.arange(1, 41, dtype=torch.float64) ** -0.5,
    "evenly spaced": _line(4, 1, 30),
    "a bulk": torch.linalg.svdvals(_gaussian(40, 60, seed=2)),
    "values as good as equal": torch.cat([5 + 1e-3 * SPREADING, 3 + 1e-6 * SPREADING, _line(2.5, 0.1, 16)]),
    "two values far above": torch.cat([_line(50, 20, 2), _line(3, 1, 30)]),
    "pairs of equal values": torch.cat([_line(9, 5, 6).repeat_interleave(2), _line(4, 1, 10)]),
    "zero values": torch.cat([_line(9, 5, 12), torch.zeros(8, dtype=torch.float64)]),
    "few values": _line(3, 1, 6),
}


@pytest.mark.parametrize(("k", "epsilon"), [(8, 0.5), (4, 0.9)])
@pytest.mark.parametrize("spectrum", HARD)
def test_the_definition_counts_an_intruder_at_the_size_and_none_before(spectrum: str, k: int, epsilon: float) -> None:
    """NumPy's factorisations: just above the size, and on a grid of steps of 3 % below it."""
    S0 = HARD[spectrum]
    n = S0.shape[0]
    for d_out, d_in in ((n, n), (n + 9, n), (n, n + 9)):
        directions = random_directions((d_out, d_in), 2, torch.Generator().manual_seed(n))
        if spectrum == "two values far above":  # of which the second direction has next to nothing, as of most others
            directions.u[1, 5:] *= 1e-4
            directions.u[1] /= torch.hypot(directions.u[1].norm(), directions.u_outside[1])
        for one, size in enumerate(critical_sizes(S0, directions, k=k, epsilon=epsilon).tolist()):
            assert size == math.inf or _counts(S0, directions, one, size * 1.000001, k, epsilon)
            below = min(size / 1.00001, 6 * float(S0[0])) * 1.03 ** -np.arange(0.0, 140.0)
            told_apart = below[below > 1e-6 * float(S0[0])]
            assert not any(_counts(S0, directions, one, each, k, epsilon) for each in told_apart)


def _counts(S0: torch.Tensor, directions: Directions, one: int, size: float, k: int, epsilon: float) -> bool:
    """Whether W0 + size u v^T, written in the basis of W0, has an intruder by NumPy's factorisation."""
    n = len(S0)
    u, v = (
        np.append(directions.u[one], directions.u_outside[one]),
        np.append(directions.v[one], directions.v_outside[one]),
    )
    W0 = np.zeros((n + 1, n + 1))
    W0[:n, :n] = np.diag(S0)
    U = np.linalg.svd(W0 + size * np.outer(u, v))[0]
    return bool((np.abs(U[:n, : min(k, n)]).max(axis=0) < epsilon).any())


def test_where_any_update_makes_an_intruder_the_size_is_the_smallest_one_told_apart() -> None:
    """Of many equal singular values no vector is the base's own; nor are those of the null space."""
    ones, low_rank = (
        torch.ones(80, dtype=torch.float64),
        torch.cat([_line(3, 2, 4), torch.zeros(80, dtype=torch.float64)]),
    )
    for S0 in (ones, low_rank):
        assert random_critical_sizes(S0, (len(S0), len(S0)), k=8, epsilon=0.5).tolist() == [1e-6 * float(S0[0])] * 9


def test_the_same_seed_gives_the_same_sizes() -> None:
    S0 = torch.linspace(4, 1, 30, dtype=torch.float64)
    first, again, other = (random_critical_sizes(S0, (30, 40), k=5, epsilon=0.5, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(first, first.sort().values)


def test_a_draw_that_makes_no_intruder_counts_with_the_end_of_the_search() -> None:
    """In two dimensions the nearer of two vectors is never further than 45 degrees; a plan's JSON has no infinity."""
    S0 = _line(3, 2, 2)
    assert random_critical_sizes(S0, (2, 2), k=2, epsilon=0.5, draws=3).tolist() == [18.0] * 3


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
