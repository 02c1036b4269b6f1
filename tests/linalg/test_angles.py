"""Angle bounds against the true angles, over spectra, starts and numbers of passes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spectra.linalg.angles import angle_bounds, image_angle_bounds, nearest_distance
from spectra.linalg.krylov import BlockLanczos, RitzPairs
from tests.planted import SPECTRA, orthonormal, spectrum

TALL = (260, 150)
# What rounding leaves of an angle where the bound says less, and by how much it may change a residual.
FLOOR = {torch.float32: 1e-5, torch.float64: 1e-9}
CHANGED = {torch.float32: 1.05, torch.float64: 1 + 1e-6}


def sines(true: Tensor, found: Tensor) -> Tensor:
    """sin(angle) between the columns of two matrices, without the cancellation of 1 - cos^2."""
    found = found / torch.linalg.vector_norm(found, dim=0)
    return torch.linalg.vector_norm(found - true * (true * found).sum(dim=0), dim=0)


def run_from(W: Tensor, start: Tensor, passes: int) -> tuple[BlockLanczos, RitzPairs]:
    run = BlockLanczos(start.to(W.dtype))
    for _ in range(passes):
        run.advance(W.mH @ (W @ run.pending))
    return run, run.ritz()


@given(
    kind=st.sampled_from([*SPECTRA, "steep"]),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    warmth=st.sampled_from([None, 0.3, 0.03]),
    columns=st.sampled_from([5, 8, 16]),
    passes=st.integers(1, 8),
    seed=st.integers(0, 1000),
)
@settings(max_examples=150)
def test_no_vector_is_further_from_the_true_one_than_its_bound(
    kind: str, dtype: torch.dtype, warmth: float | None, columns: int, passes: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    U, V = orthonormal(*TALL, generator), orthonormal(TALL[1], TALL[1], generator)
    S = 40.0 / torch.arange(1, TALL[1] + 1).double() ** 2 if kind == "steep" else spectrum(kind, TALL[1])
    W = (U * S) @ V.mH
    start = torch.randn(TALL[1], columns, generator=generator, dtype=torch.float64)
    if warmth is not None:
        start = V[:, :columns] + warmth * start / TALL[1] ** 0.5
    run, pairs = run_from(W.to(dtype), start, passes)
    count = columns - 3  # the engine starts with at least four columns more than it wants vectors
    found = run.ritz_vectors(pairs, count).double()
    angles = angle_bounds(pairs, count, dtype)
    images = image_angle_bounds(pairs, angles, dtype)
    # A gapless run of settled vectors is what the engine uses; beyond it a value may have been missed.
    leading = torch.cumprod((angles <= 0.1).int(), dim=0).bool() & ~equal_values(S, count, dtype)
    for true, vectors, bounds in ((V, found, angles), (U, W @ found, images)):
        holds = sines(true[:, :count], vectors) <= CHANGED[dtype] * bounds.clamp_min(FLOOR[dtype])
        assert bool(holds[leading].all())


def equal_values(S: Tensor, count: int, dtype: torch.dtype) -> Tensor:
    """Where the true vector depends on the basis that the reference chose."""
    return nearest_distance(S**2)[:count] < 1e-3 * S[:1] ** 2 * (torch.finfo(dtype).eps / 1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_values_close_together_but_far_above_the_rest_have_small_bounds(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(5)
    V = orthonormal(200, 200, generator)
    S = torch.cat([torch.linspace(20, 19, 10), torch.linspace(4, 0.1, 190)]).double()
    start = V[:, :10] + 0.004 * torch.randn(200, 10, generator=generator, dtype=torch.float64)
    _, pairs = run_from(((V * S) @ V.mH).to(dtype), start, 2)
    by_neighbour = pairs.residuals / nearest_distance(pairs.values)
    found = angle_bounds(pairs, 9, dtype)
    # The gap to the end of the cluster instead of that to the neighbour.
    assert bool((found[:5] < by_neighbour[:5] / 4).all())
    assert bool((found < 2 * by_neighbour[:9]).all())


def test_an_image_is_hardly_further_off_than_its_vector_where_the_values_differ_much() -> None:
    generator = torch.Generator().manual_seed(6)
    U, V = orthonormal(200, 120, generator), orthonormal(120, 120, generator)
    S = 40 * 0.8 ** torch.arange(120).double()
    start = torch.randn(120, 16, generator=generator, dtype=torch.float64)
    _, pairs = run_from((U * S) @ V.mH, start, 4)
    angles = angle_bounds(pairs, 10, torch.float64)
    images = image_angle_bounds(pairs, angles, torch.float64)
    assert float(S[0] / S[9]) > 7
    assert bool((images < 1.5 * angles + 1e-9).all())


def test_a_single_pair_without_residual_is_exact_to_rounding() -> None:
    one = torch.ones(1, dtype=torch.float64)
    pairs = RitzPairs(
        4 * one, torch.eye(1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64), 4.0, torch.zeros(1, 0), 1
    )
    assert float(angle_bounds(pairs, 1, torch.float64)) < 1e-14
