"""Fully fine-tuned checkpoints: prefixes, shards, heads, tied weights, dtypes, and experts fused or apart."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from families import FAMILIES
from safetensors.torch import load_file, save_file
from torch import Tensor
from tuned import quiet

from spectra import Selection
from spectra.errors import CheckpointError
from spectra.weights import open_pair


def tuned_copy(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


def saved(folder: Path, family: str, **settings: object) -> tuple[Path, Path]:
    with quiet():
        FAMILIES[family].build().save_pretrained(folder / "base", **settings)
        tuned_copy(FAMILIES[family].build()).save_pretrained(folder / "tuned", **settings)
    return folder / "base", folder / "tuned"


def deltas(base: Path, tuned: Path, **options: object) -> dict[str, Tensor]:
    return {str(matrix.name): matrix.delta_W() for matrix in open_pair(base, tuned, Selection(**options)).matrices}


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_linear_layer_of_the_blocks_is_compared(family: str, tmp_path: Path) -> None:
    base, tuned = saved(tmp_path, family)
    before, after = load_file(base / "model.safetensors"), load_file(tuned / "model.safetensors")
    pair = open_pair(base, tuned)
    assert pair.kind == "full" and pair.warnings == ()
    assert len({str(matrix.name) for matrix in pair.matrices}) == len(pair.matrices)
    for matrix in pair.matrices:
        assert matrix.update() is None and matrix.name.layer in (0, 1)
        assert matrix.name.block in ("attention", "mlp", "expert") or matrix.name.role.endswith(("gate", "router"))
        if family != "gpt_oss":
            (name,) = [name for name in before if f".{name}".endswith(f".{matrix.name}.weight")]
            expected = after[name] - before[name]
            assert torch.equal(matrix.delta_W(), expected.T if FAMILIES[family].conv1d else expected)
    stacked = [name for name, W in before.items() if W.ndim == 3 and "experts" in name]
    flat = [
        name
        for name, W in before.items()
        if W.ndim == 2
        and name.endswith(".weight")
        and any(part.isdigit() for part in name.split("."))
        and "relative_attention_bias" not in name
    ]
    assert len(pair.matrices) == len(flat) + sum(len(before[name]) for name in stacked)


def test_shards_are_one_checkpoint(tmp_path: Path) -> None:
    base, tuned = saved(tmp_path, "llama")
    whole = deltas(base, tuned)
    with quiet():
        tuned_copy(FAMILIES["llama"].build()).save_pretrained(tmp_path / "shards", max_shard_size="8KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    sharded = deltas(base, tmp_path / "shards")
    assert sharded.keys() == whole.keys() and all(torch.equal(sharded[name], whole[name]) for name in whole)


def test_a_single_file_is_a_checkpoint(tmp_path: Path) -> None:
    base, tuned = saved(tmp_path, "gpt2")
    whole = deltas(base, tuned)
    for folder in (base, tuned):
        shutil.copy(folder / "model.safetensors", tmp_path / f"{folder.name}.safetensors")
    alone = deltas(tmp_path / "base.safetensors", tmp_path / "tuned.safetensors")
    assert alone.keys() == whole.keys() and all(torch.equal(alone[name], whole[name]) for name in whole)


@pytest.mark.parametrize("prefix", ["model.", "transformer.", "base_model.model.", "module.model.", "roberta."])
def test_prefixes_do_not_matter(prefix: str, tmp_path: Path) -> None:
    base, tuned = saved(tmp_path, "bert")
    whole = deltas(base, tuned)
    file = tuned / "model.safetensors"
    save_file({prefix + name.removeprefix("bert."): W for name, W in load_file(file).items()}, file)
    renamed = deltas(base, tuned)
    assert renamed.keys() == whole.keys() and all(torch.equal(renamed[name], whole[name]) for name in whole)


@pytest.mark.parametrize("prefixes", [("bert.", ""), ("", "bert."), ("bert.", "base_model.model.")])
def test_prefixes_do_not_matter_beside_the_blocks_either(prefixes: tuple[str, str], tmp_path: Path) -> None:
    """rxnfp's base says "bert.embeddings", its fine-tuned models say "embeddings"."""
    base, tuned = saved(tmp_path, "bert")
    for folder, prefix in zip((base, tuned), prefixes, strict=True):
        body = load_file(folder / "model.safetensors")
        body = {prefix + name.removeprefix("bert."): W for name, W in body.items() if name.startswith("bert.")}
        save_file(body, folder / "model.safetensors")
    before, after = (load_file(folder / "model.safetensors") for folder in (base, tuned))
    name = "embeddings.word_embeddings"
    [delta] = deltas(base, tuned, include=re.escape(name)).values()
    assert torch.equal(delta, after[f"{prefixes[1]}{name}.weight"] - before[f"{prefixes[0]}{name}.weight"])
    assert not [one for one in open_pair(base, tuned).skipped if one.reason == "not in the base"]


def test_an_added_head_is_told_and_a_dropped_one_too(tmp_path: Path) -> None:
    config = transformers.BertConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2)
    with quiet():
        transformers.BertForMaskedLM(config).save_pretrained(tmp_path / "base")
        body = load_file(tmp_path / "base" / "model.safetensors")
        head = transformers.BertForSequenceClassification(config)
        head.load_state_dict({name: W for name, W in body.items() if name in head.state_dict()}, strict=False)
        tuned_copy(head).save_pretrained(tmp_path / "tuned")
    pair = open_pair(tmp_path / "base", tmp_path / "tuned")
    reasons = {skipped.name: skipped.reason for skipped in pair.skipped}
    assert len(pair.matrices) == 6
    assert reasons["classifier"] == "not in the base"
    assert (
        "absent" in reasons["cls.predictions.transform.dense"]
        or "outside" in reasons["cls.predictions.transform.dense"]
    )


def test_tied_embeddings_are_one_matrix_at_most(tmp_path: Path) -> None:
    base, tuned = saved(tmp_path, "gpt2")
    names = [str(matrix.name) for matrix in open_pair(base, tuned, Selection(include="wte|lm_head")).matrices]
    assert names == ["wte"]


@pytest.mark.parametrize(
    ("base_dtype", "tuned_dtype", "grid"),
    [
        (torch.float32, torch.bfloat16, torch.bfloat16),
        (torch.float16, torch.float32, torch.float16),
        (torch.float16, torch.bfloat16, torch.bfloat16),
    ],
)
def test_dtypes_that_differ_are_compared_on_the_coarser_grid(
    base_dtype: torch.dtype, tuned_dtype: torch.dtype, grid: torch.dtype, tmp_path: Path
) -> None:
    base, tuned = saved(tmp_path, "llama")
    for folder, dtype in ((base, base_dtype), (tuned, tuned_dtype)):
        file = folder / "model.safetensors"
        save_file({name: W.to(dtype) for name, W in load_file(file).items()}, file)
    before, after = load_file(base / "model.safetensors"), load_file(tuned / "model.safetensors")
    pair = open_pair(base, tuned)
    assert len(pair.warnings) == 1 and f"both are compared in {str(grid).removeprefix('torch.')}" in pair.warnings[0]
    for matrix in pair.matrices:
        name = f"model.{matrix.name}.weight"
        assert torch.equal(matrix.W0.load(), before[name].to(grid).float())
        assert torch.equal(matrix.W_tuned(), after[name].to(grid).float())
        assert matrix.W0.rows(0, 1).dtype == grid


def test_a_base_saved_again_in_half_precision_has_no_update(tmp_path: Path) -> None:
    base, _ = saved(tmp_path, "llama")
    shutil.copytree(base, tmp_path / "half")
    file = tmp_path / "half" / "model.safetensors"
    save_file({name: W.bfloat16() for name, W in load_file(file).items()}, file)
    assert all(not delta.any() for delta in deltas(base, tmp_path / "half").values())


@pytest.mark.parametrize("family", ["mixtral", "qwen2_moe"])
def test_fused_experts_meet_experts_stored_apart(family: str, tmp_path: Path) -> None:
    base, tuned = saved(tmp_path, family)
    whole = deltas(base, tuned)
    shutil.copytree(tuned, tmp_path / "fused")
    file = tmp_path / "fused" / "model.safetensors"
    memory = tuned_copy(FAMILIES[family].build()).state_dict()
    save_file({name: W.contiguous() for name, W in memory.items()}, file)
    fused = deltas(base, tmp_path / "fused")
    gate, up, down = ("w1", "w3", "w2") if family == "mixtral" else ("gate_proj", "up_proj", "down_proj")
    experts = sorted({name.rpartition(".")[0] for name in whole if ".experts." in name})
    assert len(experts) == 6
    for expert in experts:
        stacked = torch.cat([whole[f"{expert}.{gate}"], whole[f"{expert}.{up}"]])
        assert torch.equal(fused[f"{expert}.gate_up_proj"], stacked)
        assert torch.equal(fused[f"{expert}.{down}"], whole[f"{expert}.{down}"])
    backwards = deltas(tmp_path / "fused", tuned)
    assert all(not delta.any() for name, delta in backwards.items()) and len(backwards) == len(whole)


def test_strangers_are_warned_of(tmp_path: Path) -> None:
    base, _ = saved(tmp_path, "llama")
    torch.manual_seed(99)
    with quiet():
        config = transformers.AutoConfig.from_pretrained(base)
        transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "other")
    (warning,) = open_pair(base, tmp_path / "other").warnings
    assert "hardly resembles" in warning


def test_matrices_of_another_size_are_refused(tmp_path: Path) -> None:
    base, tuned = saved(tmp_path, "llama")
    file = tuned / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"] = torch.zeros(20, 16)
    save_file(tensors, file)
    with pytest.raises(
        CheckpointError, match=r"'model.layers.1.mlp.up_proj' differ in shape: \(24, 16\) and \(20, 16\)"
    ):
        open_pair(base, tuned)


def test_a_full_checkpoint_needs_its_base_named(tmp_path: Path) -> None:
    _, tuned = saved(tmp_path, "llama")
    with pytest.raises(CheckpointError, match="full checkpoint and does not say what it was tuned from"):
        open_pair(None, tuned)


def test_a_hub_model_in_the_cache_is_found_by_its_name_and_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned = saved(tmp_path, "llama")
    cache = tmp_path / "hub" / "models--org--name"
    commit = "0123456789012345678901234567890123456789"
    for folder in ("blobs", "refs", f"snapshots/{commit}"):
        (cache / folder).mkdir(parents=True)
    (cache / "refs" / "v1").write_text(commit)
    for number, file in enumerate(sorted(base.iterdir())):
        shutil.copy(file, cache / "blobs" / str(number))
        (cache / "snapshots" / commit / file.name).symlink_to(f"../../blobs/{number}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    pair = open_pair("org/name", tuned, Selection(base_revision="v1"))
    assert len(pair.matrices) == 14 and pair.base == "org/name"
    with pytest.raises(
        CheckpointError, match="'org/name' at revision 'v2' is no local path, is not in the hub's cache"
    ):
        open_pair("org/name", tuned, Selection(base_revision="v2"))


@pytest.mark.parametrize(
    ("family", "fused", "parts"),
    [
        ("gpt2", "c_attn", ("q", "k", "v")),
        ("bloom", "query_key_value", ("q", "k", "v")),
        ("gpt_neox", "query_key_value", ("q", "k", "v")),
        ("falcon", "query_key_value", ("q", "k", "v")),
        ("phi3", "qkv_proj", ("q", "k", "v")),
        ("phi3", "gate_up_proj", ("gate", "up")),
    ],
)
def test_fused_matrices_are_taken_apart_without_loss(
    family: str, fused: str, parts: tuple[str, ...], tmp_path: Path
) -> None:
    base, tuned = saved(tmp_path, family)
    whole = deltas(base, tuned)
    apart = deltas(base, tuned, split_fused=True)
    names = [name for name in whole if name.endswith(fused)]
    assert names and not any(name in apart for name in names)
    for name in names:
        pieces = [apart[f"{name}.{part}"] for part in parts]
        assert sorted(map(tuple, torch.cat(pieces).tolist())) == sorted(map(tuple, whole[name].tolist()))
    only = deltas(base, tuned, split_fused=True, roles=parts[0])
    assert len(only) == len(names) and all(name.endswith(f".{parts[0]}") for name in only)


def queries_keys_values(model: torch.nn.Module, layer: torch.nn.Module, X: Tensor) -> list[Tensor]:
    return [
        part.transpose(1, 2).flatten(2) if part.ndim == 4 else part for part in layer._reshape(layer.query_key_value(X))
    ]


def test_split_queries_are_the_ones_that_bloom_computes(tmp_path: Path) -> None:
    base, tuned = saved(tmp_path, "bloom")
    attention = FAMILIES["bloom"].build().transformer.h[0].self_attention
    attention.query_key_value.bias.data.zero_()
    X = torch.randn(1, 5, 16)
    matrices = {
        str(matrix.name): matrix for matrix in open_pair(base, tuned, Selection(split_fused=True, layers="0")).matrices
    }
    for part, expected in zip("qkv", queries_keys_values(attention, attention, X), strict=True):
        W = matrices[f"h.0.self_attention.query_key_value.{part}"].W0.load()
        torch.testing.assert_close(X @ W.mT, expected)


@pytest.mark.parametrize(
    "settings",
    [
        {"new_decoder_architecture": True, "num_kv_heads": 2},
        {"new_decoder_architecture": False, "multi_query": True},
        {"new_decoder_architecture": False, "multi_query": False},
    ],
)
def test_split_queries_are_the_ones_that_falcon_computes(settings: dict, tmp_path: Path) -> None:
    config = transformers.FalconConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=4,
        vocab_size=32,
        bos_token_id=1,
        eos_token_id=2,
        **settings,
    )
    torch.manual_seed(0)
    model = transformers.FalconForCausalLM(config)
    with quiet():
        model.save_pretrained(tmp_path)
    attention = model.transformer.h[0].self_attention
    X = torch.randn(1, 5, 16)
    query, key, value = attention._split_heads(attention.query_key_value(X))
    matrices = {
        str(matrix.name).rpartition(".")[2]: matrix
        for matrix in open_pair(
            tmp_path, tmp_path, selection=Selection(split_fused=True, include="query_key_value")
        ).matrices
    }
    torch.testing.assert_close(X @ matrices["q"].W0.load().mT, query.flatten(2))
    # Falcon repeats shared keys and values for every query head; the distinct ones are those of the matrix.
    for part, computed in (("k", key), ("v", value)):
        mine = (X @ matrices[part].W0.load().mT).unflatten(2, (-1, 4))
        repeats = computed.shape[2] // mine.shape[2]
        torch.testing.assert_close(mine, computed[:, :, ::repeats])


def test_the_index_of_a_checkpoint_may_name_shards_in_subfolders(tmp_path: Path) -> None:
    base, tuned = saved(tmp_path, "llama")
    (tuned / "weights").mkdir()
    names = list(load_file(tuned / "model.safetensors"))
    (tuned / "model.safetensors").rename(tuned / "weights" / "a.safetensors")
    index = {"weight_map": dict.fromkeys(names, "weights/a.safetensors")}
    (tuned / "model.safetensors.index.json").write_text(json.dumps(index))
    assert len(deltas(base, tuned)) == 14
