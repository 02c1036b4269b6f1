"""The variants of peft's LoRA: each against the delta that peft's own layers report or merge."""

from pathlib import Path

import peft
import pytest
import torch
from families import FAMILIES
from safetensors.torch import load_file, save_file
from tuned import Tuned, perturb, quiet, tune

from spectra import Selection
from spectra.errors import AdapterError
from spectra.weights import CheckpointPair, open_pair

TARGETS = ["q_proj", "down_proj"]
TOLERANCE = {"atol": 1e-5, "rtol": 1e-5}


def lora(**settings: object) -> peft.LoraConfig:
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 6, "target_modules": TARGETS, **settings})


def agree(pair: CheckpointPair, tuned: Tuned) -> None:
    assert pair.matrices
    for matrix in pair.matrices:
        torch.testing.assert_close(
            matrix.delta_W(torch.float64), tuned.delta(matrix.name.canonical, conv1d=False), **TOLERANCE
        )


def test_the_update_is_exactly_what_pefts_layers_report(tmp_path: Path) -> None:
    tuned = tune(tmp_path, "llama", lora(use_rslora=True, rank_pattern={"down_proj": 2}, alpha_pattern={"q_proj": 3}))
    with quiet():
        model = peft.PeftModel.from_pretrained(FAMILIES["llama"].build(), tuned.adapter)
    layers = {name: layer for name, layer in model.named_modules() if hasattr(layer, "get_delta_weight")}
    pair = open_pair(tuned.base, tuned.adapter)
    assert len(layers) == len(pair.matrices) == 4
    for matrix in pair.matrices:
        layer = layers[f"base_model.model.model.{matrix.name}"]
        update = matrix.update()
        assert update is not None and update.scaling == layer.scaling["default"]
        assert update.rank == layer.r["default"]
        torch.testing.assert_close(update.dense(), layer.get_delta_weight("default"), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        {"layers_to_transform": [1]},
        {"lora_bias": True, "bias": "lora_only", "target_modules": ["query"]},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": False},
        {"use_dora": True, "use_rslora": True, "rank_pattern": {"q_proj": 2}},
        {"target_modules": "all-linear"},
        {"target_modules": r".*\.0\.self_attn\.(q|v)_proj"},
    ],
    ids=lambda settings: next(iter(settings.values())).__str__()[:20],
)
def test_configurations_read_as_peft_reads_them(settings: dict, tmp_path: Path) -> None:
    family = "bert" if settings.get("lora_bias") else "llama"
    tuned = tune(tmp_path, family, lora(**settings))
    agree(open_pair(tuned.base, tuned.adapter), tuned)


def test_an_embedding_is_compared_when_it_is_named(tmp_path: Path) -> None:
    tuned = tune(tmp_path, "llama", lora(target_modules=["embed_tokens", "q_proj"]))
    assert {matrix.name.role for matrix in open_pair(tuned.base, tuned.adapter).matrices} == {"q_proj"}
    pair = open_pair(tuned.base, tuned.adapter, Selection(include="embed_tokens|lm_head"))
    assert [str(matrix.name) for matrix in pair.matrices] == ["embed_tokens"]
    agree(pair, tuned)


def test_dora_on_an_embedding_scales_columns(tmp_path: Path) -> None:
    tuned = tune(tmp_path, "llama", lora(target_modules=["embed_tokens"], use_dora=True))
    agree(open_pair(tuned.base, tuned.adapter, Selection(include="embed")), tuned)


@pytest.mark.parametrize("use_dora", [False, True])
def test_a_convolution_is_flattened(use_dora: bool, tmp_path: Path) -> None:
    tuned = tune(tmp_path, "vit", lora(target_modules=["projection"], use_dora=use_dora))
    pair = open_pair(tuned.base, tuned.adapter, Selection(include="projection"))
    assert pair.matrices[0].shape == (16, 3 * 4 * 4)
    agree(pair, tuned)


def test_modules_saved_whole_are_told_or_compared(tmp_path: Path) -> None:
    tuned = tune(tmp_path, "bert", lora(target_modules=["query"], modules_to_save=["classifier", "value"]))
    pair = open_pair(tuned.base, tuned.adapter)
    assert {matrix.name.role for matrix in pair.matrices} == {"query", "value"}
    assert {matrix.name.role for matrix in pair.matrices if matrix.update() is None} == {"value"}
    assert "classifier" in {skipped.name for skipped in pair.skipped}
    agree(pair, tuned)


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe"])
def test_every_expert_of_a_targeted_parameter_is_a_matrix(family: str, tmp_path: Path) -> None:
    parameters = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]
    config = lora(target_modules=["q_proj"], target_parameters=parameters, rank_pattern={"experts.down_proj": 2})
    tuned = tune(tmp_path, family, config)
    pair = open_pair(tuned.base, tuned.adapter)
    assert len(pair.matrices) == 2 * (1 + 2 * 3)
    base, merged = tuned.tensors("base"), tuned.tensors("merged")
    halves = ("w1", "w3") if family == "mixtral" else ("gate_proj", "up_proj")
    for matrix in pair.matrices:
        stem, _, leaf = f"model.{matrix.name}".rpartition(".")
        parts = halves if leaf == "gate_up_proj" else (leaf,)
        names = [f"{stem}.{part}.weight" for part in parts]
        expected = torch.cat([merged[name] for name in names]) - torch.cat([base[name] for name in names])
        torch.testing.assert_close(matrix.delta_W(), expected, **TOLERANCE)
        assert matrix.name.block == ("attention" if leaf == "q_proj" else "expert")
        assert expected.abs().max() > 0.01


def test_experts_stored_transposed_are_turned(tmp_path: Path) -> None:
    config = lora(target_modules=[], target_parameters=["experts.gate_up_proj", "experts.down_proj"])
    tuned = tune(tmp_path, "gpt_oss", config)
    base, merged = tuned.tensors("base"), tuned.tensors("merged")
    pair = open_pair(tuned.base, tuned.adapter)
    assert len(pair.matrices) == 2 * 2 * 3
    for matrix in pair.matrices:
        *stem, expert, leaf = f"model.{matrix.name}".split(".")
        name = ".".join([*stem, leaf])
        expected = (merged[name] - base[name])[int(expert)].T
        torch.testing.assert_close(matrix.delta_W(), expected, **TOLERANCE)


def test_the_router_as_a_parameter_is_a_plain_matrix(tmp_path: Path) -> None:
    tuned = tune(tmp_path, "mixtral", lora(target_modules=[], target_parameters=["mlp.gate.weight"]))
    pair = open_pair(tuned.base, tuned.adapter)
    assert {matrix.name.role for matrix in pair.matrices} == {"gate"}
    agree(pair, tuned)


def test_one_of_several_adapters_is_chosen_by_name(tmp_path: Path) -> None:
    with quiet():
        model = peft.get_peft_model(FAMILIES["llama"].build(), lora(), adapter_name="first")
        model.add_adapter("second", lora(r=2))
        perturb(model)
        model.save_pretrained(tmp_path / "both")
        FAMILIES["llama"].build().save_pretrained(tmp_path / "base")
    with pytest.raises(AdapterError, match=r"holds 2 adapters: first, second\. Choose one with --adapter-name"):
        open_pair(tmp_path / "base", tmp_path / "both")
    for name, rank in (("first", 4), ("second", 2)):
        pair = open_pair(tmp_path / "base", tmp_path / "both", Selection(adapter_name=name))
        assert {matrix.update().rank for matrix in pair.matrices} == {rank}
    with pytest.raises(AdapterError, match="holds no adapter 'third'"):
        open_pair(tmp_path / "base", tmp_path / "both", Selection(adapter_name="third"))


def test_names_that_carry_the_adapters_name_are_read(tmp_path: Path) -> None:
    tuned = tune(tmp_path, "llama", lora())
    expected = {str(matrix.name): matrix.delta_W() for matrix in open_pair(tuned.base, tuned.adapter).matrices}
    file = tuned.adapter / "adapter_model.safetensors"
    save_file({name.replace(".weight", ".default.weight"): tensor for name, tensor in load_file(file).items()}, file)
    for matrix in open_pair(tuned.base, tuned.adapter).matrices:
        assert torch.equal(matrix.delta_W(), expected[str(matrix.name)])


@pytest.mark.parametrize("init", ["pissa", "olora"])
@pytest.mark.parametrize("use_rslora", [False, True])
def test_a_converted_adapter_has_the_update_of_the_original_base(init: str, use_rslora: bool, tmp_path: Path) -> None:
    # peft's conversion writes B A - B_init A_init as one LoRA of twice the rank.
    with quiet():
        FAMILIES["llama"].build().save_pretrained(tmp_path / "base")
        model = peft.get_peft_model(FAMILIES["llama"].build(), lora(init_lora_weights=init, use_rslora=use_rslora))
        model.save_pretrained(tmp_path / "initial")
        perturb(model)
        model.save_pretrained(tmp_path / "plain")
        model.save_pretrained(
            tmp_path / "converted", path_initial_model_for_weight_conversion=str(tmp_path / "initial")
        )
        mutated = model.unload()
        mutated.save_pretrained(tmp_path / "mutated")
    base = tmp_path / "base"
    expected = {str(matrix.name): matrix.delta_W() for matrix in open_pair(base, tmp_path / "converted").matrices}
    recomputed = open_pair(base, tmp_path / "plain")
    subtracted = open_pair(base, tmp_path / "plain", Selection(initial_adapter=tmp_path / "initial"))
    on_mutated = open_pair(base, tmp_path / "plain", Selection(tuned_base=tmp_path / "mutated"))
    for pair in (recomputed, subtracted, on_mutated):
        assert pair.method == f"lora ({init})" and len(pair.warnings) == 1
        for matrix in pair.matrices:
            torch.testing.assert_close(matrix.delta_W(), expected[str(matrix.name)], **TOLERANCE)
    assert {matrix.update().rank for matrix in recomputed.matrices} == {8}
    naive = recomputed.matrices[0].change.inner.low_rank(recomputed.matrices[0].W0, torch.float32, "cpu").dense()
    assert (naive - expected[str(recomputed.matrices[0].name)]).abs().max() > 1e-3


@pytest.mark.parametrize("init", ["pissa_niter_4", "corda", "loftq", "lora_ga"])
def test_an_init_that_w0_does_not_determine_is_refused(init: str, tmp_path: Path) -> None:
    tuned = tune(tmp_path, "llama", lora())
    config = tuned.adapter / "adapter_config.json"
    config.write_text(config.read_text().replace('"init_lora_weights": true', f'"init_lora_weights": "{init}"'))
    with pytest.raises(AdapterError, match=rf"initialised with '{init}'.*--tuned-base"):
        open_pair(tuned.base, tuned.adapter)
    assert open_pair(tuned.base, tuned.adapter, Selection(tuned_base=tuned.base)).method == f"lora ({init})"


def test_olora_on_a_square_conv1d_follows_peft(tmp_path: Path) -> None:
    tuned = tune(tmp_path, "gpt2", lora(target_modules=["attn.c_proj"], init_lora_weights="olora"))
    for matrix in open_pair(tuned.base, tuned.adapter).matrices:
        expected = tuned.delta(matrix.name.canonical, conv1d=True)
        torch.testing.assert_close(matrix.delta_W(torch.float64), expected, **TOLERANCE)
