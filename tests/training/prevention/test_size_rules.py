"""MaxNorm and L2Init, of adapters and of full fine-tuning."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from spectra.errors import ModelError, SpectrumError
from spectra.training.modules import linear_modules
from spectra.training.prevention.l2_init import L2Init
from spectra.training.prevention.max_norm import MaxNorm
from spectra.training.prevention.moment import Moment
from tests.training.prevention.training import AfterEveryStep, model_of, save_base, trainer_of, updates_of


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_base(tmp_path_factory.mktemp("base"))


def dense_updates(model: Any, start: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: model.get_submodule(name).weight.detach().double() - start[name] for name in start}


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: model.get_submodule(name).weight.detach().double().clone() for name in linear_modules(model)}


@pytest.mark.parametrize("full", [False, True])
def test_no_update_exceeds_the_norm_after_any_step_nor_after_resuming(full: bool, base: str, tmp_path: Path) -> None:
    norm, reached, seen = 0.1, set(), []

    def trainer() -> Any:
        made = trainer_of(model_of(base, full=full), tmp_path, learning_rate=1e-2)
        start = weights(made.model) if full else {}
        MaxNorm(norm).attach(made)

        def look(step: int) -> None:
            seen.append(step)
            deltas = dense_updates(made.model, start) if full else updates_of(made.model)
            for name, delta in deltas.items():
                assert float(delta.norm()) <= norm
                reached.update([name] if float(delta.norm()) > 0.99 * norm else [])

        made.add_callback(AfterEveryStep(look))
        return made

    first, again = trainer(), trainer()
    first.train()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert seen == [*range(9), 4, 5, 6, 7, 8] and len(reached) == 14
    state = again.model.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in first.model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("full", [False, True])
def test_what_is_scaled_down_keeps_its_direction(full: bool, dtype: torch.dtype, base: str) -> None:
    model = model_of(base, full=full).to(dtype)
    start = weights(model) if full else {}
    rule = MaxNorm(0.5)
    rule.begin(model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape).to(dtype)
    before = dense_updates(model, start) if full else updates_of(model)
    rule.keep(Moment())
    after = dense_updates(model, start) if full else updates_of(model)
    for name, delta in after.items():
        assert float(delta.norm()) <= 0.5
        cosine = float((delta * before[name]).sum() / delta.norm() / before[name].norm())
        assert cosine > (1 - 1e-6 if dtype == torch.float32 else 0.99)


@pytest.mark.parametrize("full", [False, True])
def test_an_update_decays_by_rate_times_decay(full: bool, base: str) -> None:
    """The product of an adapter and the dense update alike; a head has nothing to go back to."""
    model = model_of(base, full=full)
    start = weights(model) if full else {}
    rule = L2Init(5.0)
    rule.begin(model)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn(parameter.shape)
    before = dense_updates(model, start) if full else updates_of(model)
    rule.keep(Moment(3, 8, rate=lambda parameter: 0.02))
    after = dense_updates(model, start) if full else updates_of(model)
    for name, delta in after.items():
        torch.testing.assert_close(delta, 0.9 * before[name], rtol=1e-4, atol=1e-6)


def test_the_decay_takes_the_learning_rate_of_the_step_from_the_optimiser(base: str, tmp_path: Path) -> None:
    """A linear schedule ends at a rate of nearly zero, so the decay of each step is another."""
    decays: list[float] = []

    class Watched(L2Init):
        def keep(self, moment: Moment) -> None:
            decays.append(moment.rate(self._layers[0].B))
            super().keep(moment)

    trainer = trainer_of(model_of(base), tmp_path, lr_scheduler_type="linear", max_steps=4, learning_rate=4e-3)
    Watched(1.0).attach(trainer)
    trainer.train()
    assert decays == pytest.approx([0.0, 4e-3, 3e-3, 2e-3, 1e-3])


def test_a_strong_decay_keeps_the_model_nearer_to_its_start(base: str, tmp_path: Path) -> None:
    sizes = {}
    for decay in (0.0, 20.0):
        trainer = trainer_of(model_of(base), tmp_path)
        L2Init(decay).attach(trainer)
        trainer.train()
        sizes[decay] = sum(float(delta.norm()) for delta in updates_of(trainer.model).values())
    assert sizes[20.0] < 0.7 * sizes[0.0]


def test_rules_without_a_meaning_are_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(SpectrumError, match=re.escape("norm is 0. Give a number above 0")):
        MaxNorm(0)
    with pytest.raises(SpectrumError, match=re.escape("decay is -1. Give a number of at least 0")):
        L2Init(-1)
    with pytest.raises(ModelError, match="not what is trained in"):
        MaxNorm(1.0).begin(model_of(base, use_dora=True))
    frozen = model_of(base, full=True).requires_grad_(False)
    for rule in (MaxNorm(1.0), L2Init(1.0)):
        with pytest.raises(ModelError, match="none of them is trained"):
            rule.begin(frozen)
    divided = trainer_of(model_of(base), tmp_path)
    divided.is_deepspeed_enabled = True
    with pytest.raises(ModelError, match=r"MaxNorm changes weights after .* DeepSpeed"):
        MaxNorm(1.0).attach(divided)
