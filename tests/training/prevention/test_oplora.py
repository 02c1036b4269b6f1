import re
from pathlib import Path

import pytest
import torch

from spectra.errors import ModelError, SpectrumError
from spectra.linalg.svd import thin_svd
from spectra.training.prevention.oplora import OPLoRA, leading_pairs
from tests.training.prevention.training import AfterEveryStep, bases_of, model_of, save_base, trainer_of, updates_of

PROTECT = 5


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_base(tmp_path_factory.mktemp("base"))


def test_the_update_is_orthogonal_to_both_protected_subspaces_at_every_step(base: str, tmp_path: Path) -> None:
    seen: list[int] = []

    def trainer():
        made = trainer_of(model_of(base), tmp_path)
        protected = {name: thin_svd(W0).leading(PROTECT) for name, W0 in bases_of(made.model).items()}
        OPLoRA(PROTECT).attach(made)

        def look(step: int) -> None:
            seen.append(step)
            for name, delta in updates_of(made.model).items():
                inside = max((protected[name].U.mH @ delta).norm(), (delta @ protected[name].Vh.mH).norm())
                assert float(inside) <= 2e-6 * float(delta.norm())  # float32 factors: a rounding of each, times sqrt(r)
                assert step == 0 or float(delta.norm()) > 0.01

        made.add_callback(AfterEveryStep(look))
        return made, protected

    first, protected = trainer()
    first.train()
    again, _ = trainer()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert seen == [*range(9), 4, 5, 6, 7, 8]
    state = again.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.model.state_dict().items())
    for name, delta in updates_of(first.model).items():
        tuned, old = bases_of(first.model)[name] + delta, protected[name]
        torch.testing.assert_close(tuned @ old.Vh.mH, old.U * old.S, rtol=0, atol=1e-5)


def test_the_products_are_those_of_the_projections_in_the_forward_pass() -> None:
    """The paper's own parametrisation, y = W0 x + P_L B A P_R x, trained by Adam beside the projected factors."""
    torch.manual_seed(0)
    W0, X, Y = (torch.randn(size, dtype=torch.float64) for size in ((7, 9), (9, 30), (7, 30)))
    svd = thin_svd(W0).leading(2)
    P_L = torch.eye(7, dtype=torch.float64) - svd.U @ svd.U.mH
    P_R = torch.eye(9, dtype=torch.float64) - svd.Vh.mH @ svd.Vh
    start = torch.randn(3, 9, dtype=torch.float64)
    papers = [torch.zeros(7, 3, dtype=torch.float64, requires_grad=True), start.clone().requires_grad_()]
    ours = [torch.zeros(7, 3, dtype=torch.float64, requires_grad=True), (start @ P_R).requires_grad_()]
    optimisers = [torch.optim.AdamW(factors, lr=0.05, weight_decay=0.1) for factors in (papers, ours)]
    for _ in range(10):
        ((W0 + P_L @ papers[0] @ papers[1] @ P_R) @ X - Y).pow(2).mean().backward()
        ((W0 + ours[0] @ ours[1]) @ X - Y).pow(2).mean().backward()
        ours[0].grad, ours[1].grad = P_L @ ours[0].grad, ours[1].grad @ P_R
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad()
        with torch.no_grad():
            ours[0].copy_(P_L @ ours[0])
            ours[1].copy_(ours[1] @ P_R)
        torch.testing.assert_close(ours[0] @ ours[1], P_L @ papers[0] @ papers[1] @ P_R)


@pytest.mark.parametrize("shape", [(12, 12), (20, 8), (8, 20)])
def test_the_leading_pairs_are_those_of_the_svd(shape: tuple[int, int]) -> None:
    W = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    U, Vh = leading_pairs(W, 3)
    svd = thin_svd(W.double()).leading(3)
    torch.testing.assert_close((U @ U.mH).double(), svd.U @ svd.U.mH, rtol=0, atol=1e-6)
    torch.testing.assert_close((Vh.mH @ Vh).double(), svd.Vh.mH @ svd.Vh, rtol=0, atol=1e-6)


def test_too_many_protected_directions_are_refused(base: str) -> None:
    with pytest.raises(ModelError, match=r"32 directions are protected.* Protect fewer than 32"):
        OPLoRA(32).begin(model_of(base))
    with pytest.raises(SpectrumError, match=re.escape("protect is 0. Give a whole number of at least 1")):
        OPLoRA(0)
