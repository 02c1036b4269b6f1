from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from spectra.data import load_task
from spectra.errors import ModelError, SpecificationError
from spectra.models import load_base, load_tuned
from spectra.training.adapt import METHODS, attach, parameter_groups, scaling
from spectra.training.driver import train
from spectra.training.method import Method, lora_config
from spectra.training.modules import head_modules, linear_modules, target_pattern
from spectra.training.settings import TrainingSettings
from spectra.training.store import save_trained
from tests import tiny

EXTRA: dict[str, dict[str, Any]] = {"peft": {"arguments": {"peft_type": "LOHA", "r": 2, "alpha": 2}}}
WITHOUT_RULE = [name for name, method in METHODS.items() if method.rule is None]  # the others: prevention/
FAMILIES: dict[str, Any] = {
    "bert": ("classification", "SEQ_CLS"),
    "llama": ("causal-lm", "CAUSAL_LM"),
    "gpt2": ("causal-lm", "CAUSAL_LM"),
    "bloom": ("causal-lm", "CAUSAL_LM"),
    "t5": ("seq2seq", "SEQ_2_SEQ_LM"),
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.save_model(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="module")
def sentiment(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.save_sentiment(tmp_path_factory.mktemp("tasks") / "sentiment.jsonl")


def settings(base: str, method: str, **changes: Any) -> TrainingSettings:
    of_method = METHODS[method]
    with_rank = of_method.has_rank and method != "peft"
    values: dict[str, Any] = {
        "rank": 2 if with_rank else None,
        "alpha": 6.0 if with_rank and of_method.has_alpha else None,
        **EXTRA.get(method, {}),
        **changes,
    }
    return TrainingSettings(base=base, method=method, learning_rate=1e-2, seed=0, **{"steps": 8, **values})


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=torch.arange(4, 24).reshape(2, 10)).logits


@pytest.mark.parametrize("method", WITHOUT_RULE)
def test_an_untrained_model_answers_like_the_base(method: str, bert: str) -> None:
    torch.manual_seed(1)
    base = load_base(bert, "classification", num_labels=2).model
    expected = logits(base)
    # PiSSA splits W0 into a residual and a product; their sum differs from W0 by rounding.
    tolerance = 1e-5 if METHODS[method].changes_base else 0.0
    assert torch.allclose(logits(attach(base, settings(bert, method), "SEQ_CLS")), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("method", WITHOUT_RULE)
def test_a_saved_model_answers_like_the_trained_one(method: str, bert: str, sentiment: str, tmp_path: Path) -> None:
    given = settings(bert, method)
    trained = train(given, load_task(sentiment), tmp_path / "training")
    before = logits(trained.model)
    (tmp_path / "out").mkdir()
    save_trained(trained.model, trained.tokenizer, trained.initial, tmp_path / "out")
    assert torch.equal(logits(trained.model), before)
    reloaded = load_tuned(tmp_path / "out", base=bert, kind="classification")
    torch.testing.assert_close(logits(reloaded.model), before, rtol=0, atol=1e-5)


@pytest.mark.parametrize("method", [method for method in WITHOUT_RULE if method != "full"])
def test_an_adapter_trains_itself_and_the_head_only(method: str, bert: str) -> None:
    model = attach(load_base(bert, "classification", num_labels=2).model, settings(bert, method), "SEQ_CLS")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    head = [name for name in trained if "classifier" in name or "pooler" in name]
    adapter = [name for name in trained if any(mark in name for mark in ("lora_", "vera_lambda", "hada_"))]
    assert head
    assert adapter
    assert sorted(head + adapter) == sorted(trained)


def test_full_fine_tuning_trains_everything(bert: str) -> None:
    model = attach(load_base(bert, "classification", num_labels=2).model, settings(bert, "full"), "SEQ_CLS")
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_frozen_a_has_unit_singular_values_and_does_not_move(bert: str, sentiment: str, tmp_path: Path) -> None:
    trained = train(settings(bert, "frozen-a"), load_task(sentiment), tmp_path)
    factors = {name: parameter for name, parameter in trained.model.named_parameters() if ".lora_A." in name}
    assert len(factors) == 12
    for factor in factors.values():
        assert not factor.requires_grad
        torch.testing.assert_close(torch.linalg.svdvals(factor), torch.ones(2))


def test_pissa_is_saved_against_the_published_base(bert: str, sentiment: str, tmp_path: Path) -> None:
    trained = train(settings(bert, "pissa"), load_task(sentiment), tmp_path / "training")
    (tmp_path / "out").mkdir()
    save_trained(trained.model, trained.tokenizer, trained.initial, tmp_path / "out")
    reloaded = load_tuned(tmp_path / "out", base=bert, kind="classification").model
    name = "encoder.layer.1.intermediate.dense"
    W0 = load_base(bert, "encoder").model.get_submodule(name).weight
    layer = reloaded.get_submodule(f"base_model.model.bert.{name}")
    assert torch.equal(layer.base_layer.weight, W0)
    assert layer.lora_A["default"].weight.shape[0] == 4


def test_lora_plus_and_the_head_learn_at_their_own_rates(bert: str) -> None:
    given = settings(bert, "lora+", head_learning_rate=5e-4, weight_decay=0.1, arguments={"ratio": 4})
    model = attach(load_base(bert, "classification", num_labels=2).model, given, "SEQ_CLS")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    decayed = {name for name in trained if not name.endswith("bias")}
    groups = parameter_groups(model, given, decayed, trained)
    assert groups[0]["lr"] == given.learning_rate
    rates = {names[id(parameter)]: group["lr"] for group in groups for parameter in group["params"]}
    decays = {names[id(parameter)]: group["weight_decay"] for group in groups for parameter in group["params"]}
    assert set(rates) == trained
    assert {rate for name, rate in rates.items() if ".lora_A." in name} == {1e-2}
    assert {rate for name, rate in rates.items() if ".lora_B." in name} == {4e-2}
    assert {rate for name, rate in rates.items() if "lora" not in name} == {5e-4}
    assert all(decay == (0.0 if name.endswith("bias") else 0.1) for name, decay in decays.items())


@pytest.mark.parametrize(("method", "expected"), [("lora", 3.0), ("rslora", 6 / 2**0.5), ("dora", 3.0), ("pissa", 3.0)])
def test_the_scaling_is_the_one_that_peft_applies(method: str, expected: float, bert: str) -> None:
    given = settings(bert, method)
    model = attach(load_base(bert, "classification", num_labels=2).model, given, "SEQ_CLS")
    applied = {module.scaling["default"] for module in model.modules() if hasattr(module, "lora_A")}
    assert applied == {scaling(given)}
    assert scaling(given) == pytest.approx(expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_adapters_sit_on_linear_layers_of_the_blocks_only(family: str, tmp_path: Path) -> None:
    kind, task_type = FAMILIES[family]
    reference = tiny.save_model(tmp_path / family, family)
    model = load_base(reference, kind, num_labels=2).model
    wanted = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
        if not any(outside in name for outside in ("pooler", "classifier", "lm_head"))
    ]
    assert linear_modules(model) == wanted
    given = replace(settings(reference, "lora"), target_modules="all-linear")
    wrapped = attach(model, given, task_type)
    adapted = [name for name, module in wrapped.named_modules() if hasattr(module, "lora_A")]
    assert [name.removeprefix("base_model.model.") for name in adapted] == wanted


@pytest.mark.parametrize(
    ("family", "group", "roles"),
    [
        ("bert", "qv", {"query", "value"}),
        ("bert", "attention", {"query", "key", "value", "dense"}),
        ("llama", "qv", {"q_proj", "v_proj"}),
        ("llama", "attention", {"q_proj", "k_proj", "v_proj", "o_proj"}),
        ("gpt2", "qv", {"c_attn"}),
        ("bloom", "attention", {"query_key_value", "dense"}),
        ("t5", "attention", {"q", "k", "v", "o"}),
        ("llama", ("gate_proj", "down_proj"), {"gate_proj", "down_proj"}),
    ],
)
def test_groups_of_modules_mean_the_same_in_every_family(
    family: str, group: str | tuple[str, ...], roles: set[str], tmp_path: Path
) -> None:
    kind, task_type = FAMILIES[family]
    reference = tiny.save_model(tmp_path / family, family)
    model = load_base(reference, kind, num_labels=2).model
    wrapped = attach(model, replace(settings(reference, "lora"), target_modules=group), task_type)
    adapted = [name for name, module in wrapped.named_modules() if hasattr(module, "lora_A")]
    assert {name.rpartition(".")[2] for name in adapted} == roles
    if group == "attention" and family == "bert":
        assert not any(
            "intermediate" in name or (name.endswith("output.dense") and "attention" not in name) for name in adapted
        )


def test_a_module_that_is_not_there_is_named(bert: str) -> None:
    model = load_base(bert, "classification", num_labels=2).model
    with pytest.raises(
        ModelError, match=r"matches target_modules q_proj\. Choose among all-linear, attention, qv, dense"
    ):
        target_pattern(model, ("query", "q_proj"))


def test_heads_are_found_outside_the_blocks(tmp_path: Path) -> None:
    bert = tiny.save_model(tmp_path / "bert", "bert")
    assert head_modules(load_base(bert, "classification", num_labels=2).model) == ["bert.pooler", "classifier"]
    llama = tiny.save_model(tmp_path / "llama", "llama")
    assert head_modules(load_base(llama, "causal-lm").model) == []


def test_adalora_needs_steps(bert: str) -> None:
    model = load_base(bert, "classification", num_labels=2).model
    with pytest.raises(SpecificationError, match="Give steps instead of epochs"):
        attach(model, settings(bert, "adalora", steps=None, epochs=1.0), "SEQ_CLS")


def test_arguments_that_peft_refuses_are_named(bert: str) -> None:
    model = load_base(bert, "classification", num_labels=2).model
    given = settings(bert, "peft", arguments={"peft_type": "LOHA", "ranks": 3})
    with pytest.raises(SpecificationError, match=r"peft refuses .*ranks.* Give peft_type"):
        attach(model, given, "SEQ_CLS")


def test_a_method_that_trains_all_weights_says_so_in_its_name() -> None:
    with pytest.raises(ValueError, match=r"is called 'full-"):
        Method("everything", "All weights.", None)
    with pytest.raises(ValueError, match="no adapter is"):
        Method("full-lora", "An adapter.", lora_config())


def test_a_label_says_ranges_where_modules_differ_and_counts_many_modules() -> None:
    patterns = {"rank_pattern": {"q": 2, "k": 107}, "alpha_pattern": {"q": 0.25}}
    many = {"target_modules": [f"layer.{number}" for number in range(36)]}
    label = METHODS["lora"].label
    assert (
        label(settings("base", "lora", rank=8, arguments={**patterns, **many})) == "LoRA r=2–107 α=0.25–6 on 36 modules"
    )
    assert label(settings("base", "lora", target_modules=("q", "v"))) == "LoRA r=2 α=6 on q, v"
    assert label(settings("base", "lora", arguments={"use_dora": True})) == "LoRA r=2 α=6 use_dora=true"
