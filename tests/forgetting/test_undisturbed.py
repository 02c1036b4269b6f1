"""Measuring leaves a model, its gradients and the random states as they were."""

import random

import numpy as np
import pytest
import small_models as small
import torch

from spectra.forgetting import measure
from spectra.forgetting.undisturbed import active_adapters, undisturbed


def test_modes_and_gradients_survive_a_measurement() -> None:
    model = small.llama().train()
    model.model.layers[0].eval()  # a frozen part among parts that train
    model.model.layers[1].mlp.up_proj.weight.requires_grad_(False)
    model(input_ids=torch.tensor([[7, 8, 9]]), labels=torch.tensor([[7, 8, 9]])).loss.backward()
    modes = [module.training for module in model.modules()]
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    wanted = [p.requires_grad for p in model.parameters()]
    measure(model, small.tokenizer(), small.prose())
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == wanted
    for parameter, gradient in zip(model.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (gradient is None)
        assert gradient is None or torch.equal(parameter.grad, gradient)  # type: ignore[arg-type]


def test_random_states_survive_a_measurement() -> None:
    model = small.llama()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with undisturbed(model):
        random.random(), np.random.rand(), torch.rand(1)
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == expected


def test_the_model_is_measured_in_evaluation_mode() -> None:
    model, task = small.llama(), small.prose()
    dropping = small.with_lora(model, targets=["q_proj"], lora_dropout=0.9)
    still = measure(dropping.eval(), small.tokenizer(), task)
    assert np.array_equal(measure(dropping.train(), small.tokenizer(), task).values, still.values)


def test_a_failed_measurement_restores_the_modes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small.llama().train()
    words = small.tokenizer()
    words.mask_token = None
    with pytest.raises(Exception, match="no mask token"):
        measure(model, words, small.prose(measure="pseudo-loss"))
    assert all(module.training for module in model.modules())


def test_adapters_count_as_active_when_switched_on_or_merged() -> None:
    assert active_adapters(small.llama()) == ()
    adapted = small.with_lora(small.llama(), targets=["q_proj"])
    assert active_adapters(adapted) == ("default",)
    with adapted.disable_adapter():
        assert active_adapters(adapted) == ()
    adapted.merge_adapter()
    assert active_adapters(adapted) == ("default",)


def test_other_truncation_other_tokens_or_other_examples_change_the_fingerprint() -> None:
    model, words = small.llama(), small.tokenizer()
    tasks = [small.prose(), small.prose(max_length=5), small.prose(limit=11), small.prose(measure="bits-per-byte")]
    prints = [measure(model, words, task).fingerprint for task in tasks]
    framed = measure(model, small.tokenizer(framed=True), small.prose()).fingerprint
    assert len({*prints, framed}) == 5
    assert measure(small.llama(seed=9), words, small.prose()).fingerprint == prints[0]
