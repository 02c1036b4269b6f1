import copy
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import LlamaForCausalLM

from spectra import intruders
from spectra.errors import ModelError, SpectrumError
from spectra.linalg.svd import thin_svd
from spectra.training.prevention.factors import lora_layers
from spectra.training.prevention.moment import Moment
from spectra.training.prevention.spectral_budget import SpectralBudget
from tests import reference
from tests.training.prevention.training import AfterEveryStep, model_of, save_base, trainer_of, updates_of


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_base(tmp_path_factory.mktemp("base"))


def norms(model: Any) -> dict[str, float]:
    return {name: float(torch.linalg.matrix_norm(delta, 2)) for name, delta in updates_of(model).items()}


def trained_factors(model: Any, size: float, seed: int = 3) -> Any:
    """Factors as if they had been trained, whatever the cap."""
    generator = torch.Generator().manual_seed(seed)
    for layer in lora_layers(model, "a test"):
        for factor in (layer.A, layer.B):
            factor.data = (size * torch.randn(factor.shape, generator=generator)).to(factor.dtype)
    return model


def test_no_singular_value_exceeds_its_cap_after_any_step_nor_after_resuming(base: str, tmp_path: Path) -> None:
    reached: set[str] = set()

    def watch(trainer: Any, rule: SpectralBudget, steps: list[int]) -> None:
        def look(step: int) -> None:
            steps.append(step)
            caps = rule.caps(Moment(step, 8))
            for name, size in norms(trainer.model).items():
                assert size <= caps[name], (step, name)
                reached.update([name] if size > 0.999 * caps[name] else [])

        trainer.add_callback(AfterEveryStep(look))

    first, second = [], []
    trainer = trainer_of(model_of(base), tmp_path, max_steps=8)
    watch(trainer, SpectralBudget([0.5, 0.9]).attach(trainer), first)
    trainer.train()
    again = trainer_of(model_of(base), tmp_path, max_steps=8)
    watch(again, SpectralBudget([0.5, 0.9]).attach(again), second)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert first == list(range(9)) and second == [4, 5, 6, 7, 8]
    assert reached == set(norms(trainer.model))  # the cap was in the way everywhere
    assert all(torch.equal(one, updates_of(again.model)[name]) for name, one in updates_of(trainer.model).items())


def test_a_checkpoint_of_a_training_without_the_rule_is_brought_under_it(base: str, tmp_path: Path) -> None:
    plain = trainer_of(model_of(base), tmp_path, max_steps=4)
    plain.train()
    again = trainer_of(model_of(base), tmp_path, max_steps=5)
    rule = SpectralBudget(0.5).attach(again)
    seen: list[bool] = []
    caps = rule.caps(Moment())
    over = {name for name, size in norms(plain.model).items() if size > caps[name]}
    again.add_callback(
        AfterEveryStep(lambda step: seen.append(all(n <= caps[name] for name, n in norms(again.model).items())))
    )
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert over and seen == [True, True]


@pytest.mark.parametrize("frozen", ["", "A"])
@pytest.mark.parametrize("kind", ["plain", "rank 1", "cancelling", "negative scaling"])
def test_singular_values_are_clipped_and_vectors_stay(kind: str, frozen: str, base: str) -> None:
    """Against the projection by a full SVD."""
    model = trained_factors(model_of(base), 0.3)
    layers = lora_layers(model, "a test")
    for layer in layers:
        if kind == "rank 1":
            layer.B.data[:, 1:] = 0
        if kind == "cancelling":  # B A is small, B and A are large
            layer.B.data[:, 1] = -layer.B.data[:, 0] * 100 + 0.01 * layer.B.data[:, 1]
            layer.B.data[:, 0] *= 100
            layer.A.data[1] = layer.A.data[0] + 0.01 * layer.A.data[1]
        if kind == "negative scaling":
            layer.module.scaling["default"] *= -1
        layer.A.requires_grad_(frozen != "A")
    before, factors = updates_of(model), {layer.name: layer.A.detach().clone() for layer in layers}
    # What rounding factors of this size may do to their product, a few times over.
    rounded = {layer.name: 1e-6 * float(layer.B.norm() * layer.A.norm()) for layer in layers}
    rule = SpectralBudget(0.9)
    rule.begin(model)
    rule.keep(Moment())
    caps = rule.caps(Moment())
    for layer in layers:
        svd = thin_svd(before[layer.name])
        wanted = (svd.U * svd.S.clamp_max(caps[layer.name])) @ svd.Vh
        assert float((updates_of(model)[layer.name] - wanted).norm()) < rounded[layer.name]
        assert float(torch.linalg.matrix_norm(updates_of(model)[layer.name], 2)) <= caps[layer.name]
        assert torch.equal(layer.A, factors[layer.name]) == (frozen == "A")


def test_what_keeps_the_rule_is_left_as_it_is_to_the_last_bit(base: str) -> None:
    model = trained_factors(model_of(base), 1e-3)
    before = copy.deepcopy(model.state_dict())
    rule = SpectralBudget(1.0)
    rule.begin(model)
    rule.keep(Moment(3, 8))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [0.05, 3.0])
def test_the_cap_holds_for_what_coarse_storage_makes_of_the_factors(dtype: torch.dtype, size: float, base: str) -> None:
    model = model_of(base).to(dtype)
    trained_factors(model, size)
    rule = SpectralBudget(0.8)
    rule.begin(model)
    rule.keep(Moment())
    caps = rule.caps(Moment())
    assert all(norm <= caps[name] for name, norm in norms(model).items())
    assert any(norm > 0.3 * caps[name] for name, norm in norms(model).items())


def test_the_engine_finds_no_intruder_below_a_cap_that_is_certain_and_finds_them_above(
    base: str, tmp_path: Path
) -> None:
    """The same training, with and without the rule, by the exact engine."""
    counts = {}
    for name, attach in (("plain", lambda trainer: None), ("capped", SpectralBudget(0.99, epsilon=0.6).attach)):
        trainer = trainer_of(model_of(base), tmp_path / name, max_steps=20, save_strategy="no")
        attach(trainer)
        trainer.train()
        trainer.save_model(str(tmp_path / name / "out"))
        scan = intruders(tmp_path / name / "out", base, k=10, epsilon=0.6, method="exact")
        counts[name] = scan.count
    assert counts["capped"] == 0 and counts["plain"] > 10


def test_a_random_direction_of_the_critical_size_makes_an_intruder(base: str) -> None:
    """Of the five directions that the size is the smallest of, one does, and at half of it none."""
    from spectra.linalg.secular import random_directions

    model = model_of(base, target_modules=["q_proj"])
    rule = SpectralBudget(1.0, bound="random")
    rule.begin(model)
    for layer in lora_layers(model, "a test"):
        W0 = layer.base_weight()
        svd = thin_svd(W0.double())
        drawn = random_directions(tuple(W0.shape), 5, torch.Generator().manual_seed(0))
        for times, expected in ((1.0001, True), (0.5, False)):
            counts = [
                reference.count_intruders(
                    W0.double().numpy(), (W0 + size * svd.U @ torch.outer(u, v) @ svd.Vh).numpy(), 10, 0.5
                )
                for u, v, size in zip(drawn.u, drawn.v, [times * rule.critical[layer.name]] * 5, strict=True)
            ]
            assert any(counts) == expected


def refused(model: Any) -> str:
    with pytest.raises(ModelError) as caught:
        SpectralBudget().begin(model)
    return str(caught.value)


def test_an_update_that_is_not_the_product_is_refused(base: str) -> None:
    assert "all weights of this model are trained" in refused(model_of(base, full=True))
    assert re.search(r"not what is trained in .*q_proj", refused(model_of(base, use_dora=True)))
    assert "initialisation pissa takes a part out of W0" in refused(model_of(base, init_lora_weights="pissa"))
    assert re.search(r"not what is trained in .*embed_tokens", refused(model_of(base, target_modules=["embed_tokens"])))
    plain = LlamaForCausalLM.from_pretrained(base)
    other = IA3Config(target_modules=["q_proj"], feedforward_modules=[])
    assert "the adapter is IA3" in refused(get_peft_model(plain, other))
    two = model_of(base)
    two.add_adapter("second", LoraConfig(r=2, target_modules=["q_proj"]))
    two.base_model.set_adapter(["default", "second"])
    assert "2 are active" in refused(two)


def test_a_base_whose_leading_values_are_equal_has_no_certain_size(base: str) -> None:
    model = model_of(base)
    layer = lora_layers(model, "a test")[0]
    layer.module.get_base_layer().weight.data = torch.eye(*layer.base_weight().shape)
    assert re.search(r"q_proj are equal, so no size .* use bound random", refused(model))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"share": 0}, "share is 0. Give a number above 0 and of at most 1"),
        ({"share": 1.5}, "share is 1.5"),
        ({"share": [0.1, 0.2, 0.3]}, "Give one number, or the first and the last"),
        ({"k": 0}, "k is 0"),
        ({"epsilon": 2.0}, "epsilon"),
    ],
)
def test_settings_without_a_meaning_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(SpectrumError, match=re.escape(words)):
        SpectralBudget(**given)
