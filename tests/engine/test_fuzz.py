"""A short run of `scripts/fuzz_engine.py`: hard matrices, every method, cold and warm, against float64."""

import sys
import time
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import fuzz_engine

from spectra.engine.bounds import CosineBounds
from spectra.engine.certified import certified
from spectra.engine.factors import BaseFactors, LeadingFactors
from spectra.engine.tuned import Tuned
from spectra.linalg.operators import Dense
from tests.planted import random_update


@pytest.mark.parametrize("seed", range(4))
def test_no_draw_differs(seed: int) -> None:
    seeds = iter(range(seed * 1000, seed * 1000 + 30))
    _, different = fuzz_engine.run(seeds, time.monotonic() + 120, 110)
    assert different == []


def test_a_wrong_answer_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(base: BaseFactors, *asked: object) -> list[CosineBounds]:
        answers = fuzz_engine.exact(base, *asked)  # type: ignore[arg-type]
        return [
            CosineBounds(a.S * 0.9, a.lower, a.upper, a.ill_conditioned, a.decided, a.method, a.U, a.cosines)
            for a in answers
        ]

    monkeypatch.setattr(fuzz_engine, "WAYS", dict.fromkeys(fuzz_engine.WAYS, shifted))
    _, different = fuzz_engine.run(iter(range(20)), time.monotonic() + 60, 60)
    assert any("leading vector missed" in line for line in different)


def test_known_vectors_that_are_not_different_are_refused() -> None:
    X = torch.linalg.qr(torch.randn(30, 4, generator=torch.Generator().manual_seed(0)))[0]
    twice, values = torch.cat([X, X[:, :1]], dim=1), torch.arange(5, 0, -1, dtype=torch.float64)
    with pytest.raises(ValueError, match="not orthonormal"):
        LeadingFactors(twice, values, torch.zeros(5, dtype=torch.float64), 0.0, 0.0)


@pytest.mark.parametrize("shape", [(60, 80), (80, 60), (150, 150)])
@pytest.mark.parametrize("way", fuzz_engine.WAYS)
def test_where_w0_is_zero_every_vector_is_marked_and_none_is_an_intruder(way: str, shape: tuple[int, int]) -> None:
    epsilons = torch.tensor([0.5], dtype=torch.float64)
    tuned = Tuned(update=random_update(*shape, 4, 1.0, 0))
    [found] = fuzz_engine.WAYS[way](BaseFactors(Dense(torch.zeros(shape))), [tuned], 5, epsilons)
    assert bool(found.ill_conditioned.all())
    verdicts = found.verdicts(0.5, "left")
    assert not any(verdict.is_intruder for verdict in verdicts)
    assert [(verdict.lower, verdict.upper) for verdict in verdicts] == [(0.0, 1.0)] * 5


def test_a_second_side_does_not_hold_the_vectors_of_the_first_twice() -> None:
    W0 = torch.randn(60, 120, generator=torch.Generator().manual_seed(1))
    base = BaseFactors(Dense(W0), fuzz_engine.Memory())
    epsilons = torch.tensor([0.2, 0.5], dtype=torch.float64)
    for seed, largest in enumerate((0, 600, 0)):
        tuned = Tuned(update=random_update(60, 120, 4, 8.0, seed))
        certified(base, [tuned], 5, epsilons, largest_spectrum=largest)
    assert base.leading is not None
    X = base.leading.vectors
    assert torch.allclose(X.mH @ X, torch.eye(X.shape[1]), atol=1e-4)
