"""The engine on a GPU: a pretended one everywhere, a real one where there is one."""

import itertools
import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import fuzz_engine

from spectra.engine.certified import certified
from spectra.engine.factors import BaseFactors
from spectra.engine.methods import METHODS
from spectra.engine.tuned import Tuned
from spectra.linalg import placement
from spectra.linalg.operators import Dense
from tests.planted import base_matrix, random_update
from tests.pretended_device import GPU, PretendedTensor, pretended_gpu

EPSILONS = torch.tensor([0.3, 0.5, 0.7], dtype=torch.float64)


def on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every factorisation is made on the device, however small."""
    monkeypatch.setattr(placement, "SVD_ON_CPU", 0)
    monkeypatch.setattr(placement, "EIGENPROBLEM_ON_CPU", 0)


@pytest.mark.parametrize("small_on_cpu", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_no_method_mixes_devices(seed: int, small_on_cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not small_on_cpu:
        on_the_gpu(monkeypatch)
    for draw in range(3):
        drawn = fuzz_engine.make(5000 + 3 * seed + draw, 150)
        with pretended_gpu():
            assert fuzz_engine.check(drawn, [], GPU) == [], drawn


@pytest.mark.parametrize("method", METHODS)
def test_vectors_stay_on_the_device_and_numbers_come_to_the_cpu(method: str) -> None:
    W0, _ = base_matrix(160, 120, "head and bulk", 0)
    with pretended_gpu():
        update = random_update(160, 120, 3, 3.0, 1).to(dtype=torch.float32, device=GPU)
        [found] = METHODS[method](BaseFactors(Dense(W0.to(GPU))), [Tuned(update=update)], 5, EPSILONS)
        assert isinstance(found.U(), PretendedTensor)
    for field in (found.S, found.lower, found.upper, found.ill_conditioned):
        assert not isinstance(field, PretendedTensor)


def test_the_device_is_waited_for_a_few_times_a_pass_and_not_once_a_column() -> None:
    W0, _ = base_matrix(700, 720, "head and bulk", 0)
    waits = []
    for k in (3, 12):
        with pretended_gpu() as gpu:
            held, update = W0.to(GPU), random_update(700, 720, 4, 20.0, 1).to(dtype=torch.float32, device=GPU)
            gpu.synchronisations.clear()
            certified(BaseFactors(Dense(held)), [Tuned(update=update)], k, EPSILONS)
            waits.append(gpu.synchronisations.total())
    assert max(waits) <= 120  # some thirty Krylov steps of a few each, at most
    assert waits[1] <= 2 * waits[0] + 20


@pytest.mark.gpu
@pytest.mark.parametrize("small_on_cpu", [True, False])
def test_verdicts_on_a_gpu_are_those_of_float64(small_on_cpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not small_on_cpu:
        on_the_gpu(monkeypatch)
    tallies, different = fuzz_engine.run(itertools.count(7000), time.monotonic() + 10, 200, "cuda")
    assert different == []
    assert sum(tally.draws for tally in tallies.values()) > 10


@pytest.mark.gpu
def test_a_program_that_allows_tf32_changes_no_verdict() -> None:
    W0, _ = base_matrix(300, 260, "head and bulk", 0)
    update = random_update(300, 260, 4, 3.0, 1)
    [plain] = certified(BaseFactors(Dense(W0)), [Tuned(update=update)], 6, EPSILONS)
    from spectra.linalg.precision import full_precision

    torch.set_float32_matmul_precision("high")
    try:
        with full_precision():
            [found] = certified(
                BaseFactors(Dense(W0.cuda())),
                [Tuned(update=update.to(dtype=W0.dtype, device="cuda"))],
                6,
                EPSILONS,
                largest_spectrum=0,
            )
    finally:
        torch.set_float32_matmul_precision("highest")
    assert torch.allclose(found.S, plain.S, rtol=1e-5)
    for epsilon in EPSILONS.tolist():
        assert bool(((found.upper < epsilon) == (plain.upper < epsilon)).all())
