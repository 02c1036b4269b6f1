"""Modules of an adapter that the base has otherwise or not at all: set aside, compared when asked for, or refused."""

import json
from pathlib import Path

import peft
import pytest
import torch
import transformers
from families import FAMILIES
from safetensors.torch import load_file, save_file
from tuned import perturb, quiet

from spectra import Selection
from spectra.errors import AdapterError
from spectra.weights import open_pair


def build(**config: object) -> transformers.LlamaForCausalLM:
    with quiet():
        model = FAMILIES["llama"].build()
        return transformers.LlamaForCausalLM(model.config.__class__(**{**model.config.to_dict(), **config}))


def reasons(pair: object) -> dict[str, str]:
    return {skipped.name: skipped.reason for skipped in pair.skipped}


def test_lora_on_a_tied_head_is_set_aside_and_compared_when_asked_for(tmp_path: Path) -> None:
    with quiet():
        model = build(tie_word_embeddings=True)
        model.save_pretrained(tmp_path / "base")
        tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "lm_head"]))
        perturb(tuned)
        tuned.save_pretrained(tmp_path / "adapter")
    pair = open_pair(tmp_path / "base", tmp_path / "adapter")
    assert {matrix.name.role for matrix in pair.matrices} == {"q_proj"}
    assert "tied to the input embedding, which is its W0" in reasons(pair)["lm_head"]
    (head,) = open_pair(tmp_path / "base", tmp_path / "adapter", Selection(include="lm_head")).matrices
    layer = tuned.base_model.model.lm_head
    torch.testing.assert_close(head.delta_W(), layer.get_delta_weight("default").detach())
    assert torch.equal(head.W0.load(), load_file(tmp_path / "base/model.safetensors")["model.embed_tokens.weight"])


@pytest.mark.parametrize("how", ["lora", "saved whole"])
@pytest.mark.parametrize("tokens", [30, 40])
def test_a_resized_vocabulary_is_compared_in_its_common_rows(how: str, tokens: int, tmp_path: Path) -> None:
    with quiet():
        model = build(vocab_size=34)
        model.save_pretrained(tmp_path / "base")
        model.resize_token_embeddings(tokens, mean_resizing=False)
        whole = {"modules_to_save": ["embed_tokens"]} if how == "saved whole" else {}
        targets = ["q_proj"] if whole else ["q_proj", "embed_tokens"]
        tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=targets, **whole))
        perturb(tuned)
        tuned.save_pretrained(tmp_path / "adapter")
        merged = tuned.merge_and_unload().state_dict()["model.embed_tokens.weight"]
    pair = open_pair(tmp_path / "base", tmp_path / "adapter")
    assert {matrix.name.role for matrix in pair.matrices} == {"q_proj"}
    assert f"trained for {tokens} tokens, and the base has 34" in reasons(pair)["embed_tokens"]
    (embedding,) = open_pair(
        tmp_path / "base", tmp_path / "adapter", selection=Selection(include="embed_tokens")
    ).matrices
    rows = min(tokens, 34)
    assert embedding.shape == (rows, merged.shape[1])
    torch.testing.assert_close(embedding.W_tuned(), merged[:rows])


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter beside its base."""
    with quiet():
        model = build()
        model.save_pretrained(tmp_path / "base")
        tuned = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
        perturb(tuned)
        tuned.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def rename(adapter: Path, old: str, new: str) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file({name.replace(old, new): W for name, W in load_file(file).items()}, file)


def test_the_selection_is_heard_before_a_module_is_refused(adapter: Path, tmp_path: Path) -> None:
    rename(adapter, "v_proj", "w_proj")
    with pytest.raises(AdapterError, match=r"changes '.*w_proj', and the base has no such matrix"):
        open_pair(tmp_path / "base", adapter)
    pair = open_pair(tmp_path / "base", adapter, Selection(exclude="w_proj"))
    assert len(pair.matrices) == 2
    assert reasons(pair)["layers.1.self_attn.w_proj"] == "not in the base; matched by --exclude"


def test_a_lost_rank_pattern_is_named_as_the_reason(adapter: Path, tmp_path: Path) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "r": 3}))
    with pytest.raises(AdapterError, match=r"add_weighted_adapter.*Add rank_pattern and alpha_pattern"):
        open_pair(tmp_path / "base", adapter)


@pytest.mark.parametrize("shared", ["A", "B", "neither"])
def test_stacked_factors_belong_to_experts(shared: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    experts = "model.layers.0.block_sparse_moe.experts"
    save_file({f"{experts}.{e}.w1.weight": torch.randn(6, 4) for e in range(3)}, tmp_path / "model.safetensors")
    A, B = torch.randn(1 if shared == "A" else 3, 2, 4), torch.randn(1 if shared == "B" else 3, 6, 2)
    folder = tmp_path / "adapter"
    folder.mkdir()
    name = "base_model.model.model.layers.0.mlp.experts.w1"
    save_file({f"{name}.lora_A.weight": A, f"{name}.lora_B.weight": B}, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 16}')
    matrices = open_pair(tmp_path / "model.safetensors", folder).matrices
    assert len(matrices) == 3
    for matrix, expected in zip(matrices, 8 * B @ A, strict=True):
        torch.testing.assert_close(matrix.delta_W(), expected)


def test_adalora_is_read_after_its_ranks_were_pruned(tmp_path: Path) -> None:
    with quiet():
        model = build()
        model.save_pretrained(tmp_path / "base")
        config = peft.AdaLoraConfig(
            init_r=4, target_r=2, tinit=0, tfinal=1, deltaT=1, total_step=3, target_modules=["q_proj", "v_proj"]
        )
        tuned = peft.get_peft_model(model, config)
        perturb(tuned)
        for step in (1, 2):
            tuned(input_ids=torch.tensor([[1, 2, 3]]), labels=torch.tensor([[1, 2, 3]])).loss.backward()
            tuned.base_model.update_and_allocate(step)
        tuned.save_pretrained(tmp_path / "adapter")
        fresh = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base")
        merged = peft.PeftModel.from_pretrained(fresh, tmp_path / "adapter").merge_and_unload().state_dict()
    saved = load_file(tmp_path / "adapter/adapter_model.safetensors")
    assert len({tuple(A.shape) for name, A in saved.items() if "lora_A" in name}) > 1
    pair = open_pair(tmp_path / "base", tmp_path / "adapter")
    assert len(pair.matrices) == 4
    for matrix in pair.matrices:
        torch.testing.assert_close(matrix.W_tuned(), merged[f"model.{matrix.name}.weight"])
