import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.linalg.secular import Directions, directions_in_basis, random_directions, rank_one_leading
from spectra.linalg.svd import thin_svd
from tests.planted import base_matrix


def _ones(theta: float, count: int = 1) -> torch.Tensor:
    return torch.full((count,), theta, dtype=torch.float64)


def test_a_direction_that_w0_has_adds_to_its_singular_value() -> None:
    S0 = torch.tensor([5.0, 3.0, 1.0], dtype=torch.float64)
    e = torch.eye(3, dtype=torch.float64)[1:2]
    outside = torch.zeros(1, dtype=torch.float64)
    found = rank_one_leading(S0, Directions(e, e, outside, outside), _ones(4.0), 3)
    assert found.S[0].tolist() == pytest.approx([7.0, 5.0, 1.0])
    assert found.max_cosines[0].tolist() == pytest.approx([1.0, 1.0, 1.0])


@given(
    d_out=st.integers(3, 24),
    d_in=st.integers(3, 24),
    seed=st.integers(0, 30),
    theta=st.floats(0.05, 40),
    k=st.integers(1, 8),
)
def test_values_and_cosines_equal_those_of_two_full_factorisations(
    d_out: int, d_in: int, seed: int, theta: float, k: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    W0 = torch.randn(d_out, d_in, generator=generator, dtype=torch.float64)
    u, v = (torch.randn(d, generator=generator, dtype=torch.float64) for d in (d_out, d_in))
    u, v = u / u.norm(), v / v.norm()
    base = thin_svd(W0)
    tuned = thin_svd(W0 + theta * torch.outer(u, v)).leading(k)
    found = rank_one_leading(base.S, directions_in_basis(base, u[:, None], v[None]), _ones(theta), k)
    assert found.S[0].tolist() == pytest.approx(tuned.S.tolist(), abs=1e-8 * (theta + 1))
    # A vector whose neighbour is within 1e-5 is ill-conditioned in either computation.
    gaps = (tuned.S[:-1] - tuned.S[1:]).min() if tuned.S.shape[0] > 1 else torch.tensor(1.0)
    if float(gaps) > 1e-5 and float(tuned.S[-1]) > 1e-5:
        expected = (base.U.mH @ tuned.U).abs().amax(dim=0)
        assert found.max_cosines[0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_search_that_meets_a_singular_value_exactly_goes_on() -> None:
    """Evenly spaced values: the middle of the gap between two neighbours is the value between them."""
    S0 = torch.linspace(4, 1, 30, dtype=torch.float64)
    directions = random_directions((30, 30), 1, torch.Generator().manual_seed(1))
    expected = torch.linalg.svdvals(torch.diag(S0) + 2 * torch.outer(directions.u[0], directions.v[0]))
    assert rank_one_leading(S0, directions, _ones(2.0), 10).S[0].tolist() == pytest.approx(expected[:10].tolist())


def test_many_directions_at_once_equal_one_at_a_time() -> None:
    S0 = torch.linspace(9, 1, 20, dtype=torch.float64)
    directions = random_directions((30, 20), 4, torch.Generator().manual_seed(0))
    thetas = torch.tensor([1.0, 4.0, 9.0, 20.0], dtype=torch.float64)
    together = rank_one_leading(S0, directions, thetas, 5)
    for i in range(4):
        alone = rank_one_leading(S0, directions[torch.tensor([i])], thetas[i : i + 1], 5)
        assert torch.allclose(alone.S[0], together.S[i])
        assert torch.allclose(alone.max_cosines[0], together.max_cosines[i])


@pytest.mark.parametrize("kind", ["rank deficient", "repeated values"])
def test_zero_and_repeated_singular_values_give_finite_numbers(kind: str) -> None:
    _, base = base_matrix(24, 16, kind, 1)
    directions = random_directions((24, 16), 3, torch.Generator().manual_seed(1))
    found = rank_one_leading(base.S, directions, _ones(3.0, 3), 16)
    assert bool(torch.isfinite(found.S).all())
    assert bool(((found.max_cosines >= 0) & (found.max_cosines <= 1 + 1e-9)).all())


def test_random_directions_have_length_one_whatever_the_shape() -> None:
    for shape in ((12, 5), (5, 12), (7, 7)):
        drawn = random_directions(shape, 6, torch.Generator().manual_seed(2))
        for inside, outside in ((drawn.u, drawn.u_outside), (drawn.v, drawn.v_outside)):
            assert torch.allclose(inside.pow(2).sum(dim=1) + outside**2, torch.ones(6, dtype=torch.float64))
