import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.linalg.secular import Directions, Paths, Points, directions_in_basis, leading_paths, random_directions
from spectra.linalg.svd import thin_svd
from tests.planted import base_matrix

LARGEST = 40.0


def test_a_direction_that_w0_has_adds_to_its_singular_value() -> None:
    S0 = torch.tensor([5.0, 3.0, 1.0], dtype=torch.float64)
    e = torch.eye(3, dtype=torch.float64)[1:2]
    outside = torch.zeros(1, dtype=torch.float64)
    points = _points(leading_paths(S0, Directions(e, e, outside, outside), 3, largest=LARGEST))
    on_its_way = points.sizes.isfinite() & (points.max_cosines > 0)
    assert torch.allclose(points.singular_values[on_its_way], 3 + points.sizes[on_its_way])
    assert torch.allclose(points.max_cosines[on_its_way], torch.ones(1, dtype=torch.float64))


@given(d_out=st.integers(3, 24), d_in=st.integers(3, 24), seed=st.integers(0, 30), k=st.integers(1, 8))
def test_values_and_cosines_equal_those_of_two_full_factorisations(d_out: int, d_in: int, seed: int, k: int) -> None:
    """At sizes that one of the paths passes; and the value is one of the k leading ones there."""
    generator = torch.Generator().manual_seed(seed)
    W0 = torch.randn(d_out, d_in, generator=generator, dtype=torch.float64)
    u, v = (torch.randn(d, generator=generator, dtype=torch.float64) for d in (d_out, d_in))
    u, v = u / u.norm(), v / v.norm()
    base = thin_svd(W0)
    paths = leading_paths(base.S, directions_in_basis(base, u[:, None], v[None]), k, largest=LARGEST)
    points = _points(paths, steps=5)
    for path, at in (points.sizes < LARGEST).nonzero().tolist():
        theta = float(points.sizes[path, at])
        tuned = thin_svd(W0 + theta * torch.outer(u, v))
        leading = tuned.leading(k)
        distances = (tuned.S - points.singular_values[path, at]).abs()
        found = int(distances.argmin())
        assert found < k
        assert float(distances[found]) < 1e-8 * (theta + 1)
        # A vector whose neighbour is near is ill-conditioned in either computation.
        if float(distances.sort().values[1]) > 1e-4 and float(tuned.S[found]) > 1e-4:
            expected = float((base.U.mH @ leading.U[:, found]).abs().max())
            assert float(points.max_cosines[path, at]) == pytest.approx(expected, abs=1e-5)


@given(seed=st.integers(0, 100), shape=st.sampled_from([(20, 20), (30, 20), (20, 30)]))
def test_sizes_increase_along_a_path_and_every_leading_value_lies_on_one(seed: int, shape: tuple[int, int]) -> None:
    S0 = torch.linspace(9, 1, 20, dtype=torch.float64)
    directions = random_directions(shape, 1, torch.Generator().manual_seed(seed))
    points = _points(leading_paths(S0, directions, 5, largest=LARGEST), steps=2001)
    sizes = points.sizes.clamp_max(LARGEST)
    assert bool((sizes.diff(dim=1) >= -1e-9).all())
    # At any size each of the five has its path: between two neighbouring points with the size between theirs.
    for theta in (0.3, 2.0, 12.0):
        assert int(((sizes[:, :-1] <= theta) & (theta < sizes[:, 1:])).sum()) == 5


def test_many_directions_at_once_equal_one_at_a_time() -> None:
    S0 = torch.linspace(9, 1, 20, dtype=torch.float64)
    directions = random_directions((30, 20), 4, torch.Generator().manual_seed(0))
    together = leading_paths(S0, directions, 5, largest=LARGEST)
    for i in range(4):
        alone = leading_paths(S0, directions[torch.tensor([i])], 5, largest=LARGEST)
        mine = (together.pair == i).nonzero()[:, 0]
        assert torch.equal(together.start[mine], alone.start)
        assert torch.allclose(_points(together[mine]).sizes, _points(alone).sizes)
        assert torch.allclose(_points(together[mine]).max_cosines, _points(alone).max_cosines)


@pytest.mark.parametrize("kind", ["rank deficient", "repeated values"])
def test_zero_and_repeated_singular_values_give_finite_numbers(kind: str) -> None:
    _, base = base_matrix(24, 16, kind, 1)
    directions = random_directions((24, 16), 3, torch.Generator().manual_seed(1))
    points = _points(leading_paths(base.S, directions, 16, largest=LARGEST))
    assert bool(torch.isfinite(points.singular_values).all()) and not bool(points.sizes.isnan().any())
    assert bool(((points.max_cosines >= 0) & (points.max_cosines <= 1 + 1e-9)).all())


def test_the_sizes_at_both_ends_of_a_path_lose_no_digits() -> None:
    """There one of the two solutions is a difference of numbers that grow beyond all bounds."""
    S0 = torch.linspace(9, 1, 20, dtype=torch.float64)
    paths = leading_paths(S0, random_directions((20, 20), 3, torch.Generator().manual_seed(4)), 5, largest=LARGEST)
    ends = torch.tensor([1e-6, 1e-5, 1 - 1e-5, 1 - 1e-6], dtype=torch.float64)
    points = paths.at(ends.expand(paths.start.shape[0], -1))
    met = (points.sizes[:, 1::2] < LARGEST) & (points.sizes[:, 1::2] > 1e-3)
    assert int(met.sum()) > 3
    assert torch.allclose(points.sizes[:, ::2][met], points.sizes[:, 1::2][met], rtol=1e-9)


def _points(paths: Paths, steps: int = 41) -> Points:
    return paths.at(torch.linspace(0, 1, steps + 2, dtype=torch.float64)[1:-1].expand(paths.start.shape[0], -1))


def test_random_directions_have_length_one_whatever_the_shape() -> None:
    for shape in ((12, 5), (5, 12), (7, 7)):
        drawn = random_directions(shape, 6, torch.Generator().manual_seed(2))
        for inside, outside in ((drawn.u, drawn.u_outside), (drawn.v, drawn.v_outside)):
            assert torch.allclose(inside.pow(2).sum(dim=1) + outside**2, torch.ones(6, dtype=torch.float64))
