import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra.errors import SpectrumError
from spectra.linalg.svd import thin_svd
from spectra.metrics.intruders import intruder_mask
from spectra.metrics.safe_size import safe_size
from spectra.metrics.thresholds import random_critical_sizes

SHAPES = ((12, 12), (20, 12), (12, 20))


def matrix_of(S: torch.Tensor, shape: tuple[int, int], seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    bases = [torch.linalg.qr(torch.randn(d, d, generator=generator, dtype=torch.float64))[0] for d in shape]
    n = min(shape)
    return (bases[0][:, :n] * S) @ bases[1][:, :n].mH


def count(W0: torch.Tensor, delta: torch.Tensor, k: int, epsilon: float) -> int:
    U0, U = thin_svd(W0).U, thin_svd(W0 + delta).U[:, :k]
    return int(intruder_mask(U0, U, epsilon=epsilon).sum())


def of_size(delta: torch.Tensor, size: float) -> torch.Tensor:
    return delta * (size / float(torch.linalg.matrix_norm(delta, 2)))


def rotation_inside(W0: torch.Tensor, first: int, last: int, seed: int) -> torch.Tensor:
    """An update that mixes neighbouring singular vectors and does nothing else: the worst kind there is."""
    svd = thin_svd(W0)
    drawn = torch.randn(last - first, last - first, generator=torch.Generator().manual_seed(seed), dtype=W0.dtype)
    return svd.U[:, first:last] @ drawn @ svd.Vh[first:last]


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.floats(1e-3, 1.0), min_size=12, max_size=12),
    shape=st.sampled_from(SHAPES),
    seed=st.integers(0, 10_000),
    first=st.integers(0, 4),
    width=st.integers(2, 8),
    epsilon=st.sampled_from([0.3, 0.5, 0.7, 0.95]),
)
def test_no_update_of_the_safe_size_has_an_intruder(
    gaps: list[float], shape: tuple[int, int], seed: int, first: int, width: int, epsilon: float
) -> None:
    S = torch.tensor(gaps, dtype=torch.float64).cumsum(0).flip(0)
    W0, k = matrix_of(S, shape, seed), 5
    size = 0.999 * float(safe_size(S, k=k, epsilon=epsilon))
    assert size > 0
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    for delta in (rotation_inside(W0, first, min(first + width, 12), seed), noise, noise[:, :1] @ noise[:1]):
        assert count(W0, of_size(delta, size), k, epsilon) == 0


def test_some_update_of_a_few_times_the_safe_size_has_one() -> None:
    """Along the even mix of five neighbours, whose cosines are 1/sqrt(5)."""
    S = torch.tensor([5.0, 4.98, 4.96, 4.94, 4.92, 2.0, 1.0, 0.5], dtype=torch.float64)
    W0 = matrix_of(S, (8, 8), 0)
    size, svd = float(safe_size(S, k=5, epsilon=0.5)), thin_svd(W0)
    along = svd.U[:, :5].sum(1, keepdim=True) @ svd.Vh[:5].sum(0, keepdim=True)
    counts = {times: count(W0, of_size(along, times * size), 5, 0.5) for times in (1.0, 40.0)}
    assert counts[1.0] == 0 and counts[40.0] >= 1


def test_a_size_that_is_typical_of_random_directions_lies_far_above() -> None:
    S = torch.linspace(3.0, 0.1, 40, dtype=torch.float64)
    assert float(safe_size(S, k=10, epsilon=0.5)) < float(random_critical_sizes(S, (40, 40), k=10, epsilon=0.5)[0])


def test_interchangeable_vectors_leave_no_size_that_is_safe() -> None:
    S = torch.tensor([1.0] * 6 + [0.1] * 6, dtype=torch.float64)
    assert float(safe_size(S, k=3, epsilon=0.5)) < 1e-9
    three = torch.tensor([1.0] * 3 + [0.1] * 9, dtype=torch.float64)  # 3 < 1/0.5^2: one of them always shows
    assert float(safe_size(three, k=3, epsilon=0.5)) > 0.1


def test_a_larger_matrix_has_a_larger_safe_size_in_proportion() -> None:
    S = torch.linspace(2.0, 0.5, 12, dtype=torch.float64)
    assert float(safe_size(7 * S, k=4, epsilon=0.5)) == pytest.approx(7 * float(safe_size(S, k=4, epsilon=0.5)))


def test_a_zero_matrix_is_refused() -> None:
    with pytest.raises(SpectrumError, match=r"no size of an update is safe\. Leave it out"):
        safe_size(torch.zeros(4), k=2, epsilon=0.5)
