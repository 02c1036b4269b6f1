import pytest
import torch

from spectra.linalg.angles import angle_bounds
from spectra.linalg.brackets import Brackets
from spectra.linalg.certificate import Certificate
from spectra.linalg.krylov import BlockLanczos, RitzPairs, gram_together
from spectra.linalg.operators import Dense
from tests.planted import base_matrix

ALL = torch.arange(1, 10, dtype=torch.float64) / 10


def brackets_after(
    W: torch.Tensor, Y: torch.Tensor, steps: int, epsilons: torch.Tensor, floor: float = 0.0
) -> Brackets:
    """The certificate alone: a Krylov run on W0 started from Y (or W0^H Y for a tall W0)."""
    right = W.shape[0] > W.shape[1]
    start = W.mH @ Y if right else Y
    run = BlockLanczos(start)
    for _ in range(steps):
        run.advance(gram_together(Dense(W), [None], [run.pending])[0])
    pairs = run.ritz()
    coordinates = torch.zeros(pairs.values.shape[0], Y.shape[1], dtype=torch.float64)
    coordinates[: run.start_coordinates.shape[0]] = run.start_coordinates.double()
    unknown = Brackets.unknown(Y.shape[1])
    floor = floor * float(pairs.values[0])
    certificate = Certificate(pairs, coordinates, unknown, epsilons, dtype=W.dtype, right_space=right, floor=floor)
    return certificate.brackets(settled(pairs, W.dtype))


def settled(pairs: RitzPairs, dtype: torch.dtype) -> torch.Tensor:
    """Angle bounds of the leading Ritz vectors that have settled; none is missing, because these runs are long."""
    angles = angle_bounds(pairs, pairs.values.shape[0], dtype)
    return angles[: int(torch.cumprod((angles <= 1e-2).int(), dim=0).sum())]


def vector_with_cosine(U: torch.Tensor, cosine: float, at: int) -> torch.Tensor:
    """cos to u_at as given, the rest spread evenly over all other columns."""
    n = U.shape[1]
    weights = torch.full((n,), ((1 - cosine**2) / (n - 1)) ** 0.5, dtype=U.dtype)
    weights[at] = cosine
    return U @ weights


@pytest.mark.parametrize("shape", [(200, 200), (200, 360), (360, 200)])
@pytest.mark.parametrize("kind", ["head and bulk", "power law", "flat"])
@pytest.mark.parametrize("steps", [2, 6, 12, 20])
def test_brackets_hold_the_true_value_after_any_number_of_steps(shape: tuple[int, int], kind: str, steps: int) -> None:
    W, base = base_matrix(*shape, kind, seed=steps)
    wanted = [(0.05, 3), (0.3, 90), (0.48, 150), (0.52, 60), (0.7, 20), (0.95, 0)]
    Y = torch.stack([vector_with_cosine(base.U, cosine, at) for cosine, at in wanted], dim=1)
    true = (base.U.mH @ Y).abs().max(dim=0).values
    found = brackets_after(W, Y.float(), steps, ALL, floor=1e-5)
    # 1e-4: the float32 rounding of W and Y.
    assert bool((found.lower <= true + 1e-4).all())
    assert bool((true <= found.upper + 1e-4).all())


def test_a_spread_vector_is_certified_as_an_intruder() -> None:
    W, base = base_matrix(300, 300, "head and bulk", seed=5)
    y = vector_with_cosine(base.U, 0.0, 0)[:, None]
    found = brackets_after(W, y.float(), 36, torch.tensor([0.5], dtype=torch.float64))
    assert float(found.upper) < 0.5
    assert float(found.rest) < 0.5


@pytest.mark.parametrize("at", [1, 40, 150, 299])
def test_a_vector_that_matches_deep_inside_the_spectrum_is_never_certified(at: int) -> None:
    """The trap: cos 0.52 to one vector in the bulk, found by no leading vector; the bound must not fall below 0.5."""
    W, base = base_matrix(300, 300, "head and bulk", seed=6)
    y = vector_with_cosine(base.U, 0.52, at)[:, None]
    for steps in (4, 12, 24, 40):
        found = brackets_after(W, y.float(), steps, torch.tensor([0.5], dtype=torch.float64))
        assert float(found.upper) >= 0.5


def test_more_steps_never_lose_a_certificate() -> None:
    W, base = base_matrix(300, 400, "head and bulk", seed=7)
    y = vector_with_cosine(base.U, 0.1, 50)[:, None]
    epsilon = torch.tensor([0.5], dtype=torch.float64)
    decided = [float(brackets_after(W, y.float(), steps, epsilon).upper) < 0.5 for steps in range(4, 40, 4)]
    assert decided == sorted(decided)
    assert decided[-1]


def test_without_a_floor_a_tall_matrix_certifies_nothing_outside_its_range() -> None:
    """Mass outside the range of W0 is an atom at t = 0: it could be a tiny singular value, so nothing is proven."""
    W, _ = base_matrix(360, 200, "head and bulk", seed=8)
    y = torch.linalg.qr(torch.randn(360, 1, dtype=torch.float64))[0]
    epsilon = torch.tensor([0.5], dtype=torch.float64)
    assert float(brackets_after(W, y.float(), 36, epsilon).upper) >= 0.5
    assert float(brackets_after(W, y.float(), 36, epsilon, floor=1e-5).upper) < 0.5


@pytest.mark.parametrize("margin", [0.02, 0.1])
def test_a_bound_is_sought_as_far_below_epsilon_as_the_caller_will_add_to_it(margin: float) -> None:
    W, base = base_matrix(300, 300, "head and bulk", seed=9)
    y = vector_with_cosine(base.U, 0.1, 50)[:, None].float()
    epsilon = torch.tensor([0.5], dtype=torch.float64)
    run = BlockLanczos(y)
    for _ in range(40):
        run.advance(gram_together(Dense(W), [None], [run.pending])[0])
        pairs = run.ritz()
        coordinates = torch.zeros(pairs.values.shape[0], 1, dtype=torch.float64)
        coordinates[0] = float(run.start_coordinates)
        nothing = Brackets.unknown(1)
        wide = torch.full((1,), margin, dtype=torch.float64)
        atoms = settled(pairs, W.dtype)
        found = Certificate(pairs, coordinates, nothing, epsilon, dtype=W.dtype, margin=wide).brackets(atoms)
        if bool(torch.isfinite(found.rest)):
            assert float(found.rest) + margin < 0.5
            return
    pytest.fail("nothing was certified")
