"""Everything is accounted for: wrappers, factors inside full checkpoints, empty tensors, layouts told by evidence."""

import shutil
from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from families import FAMILIES, SIZES, TOKENS, _model
from safetensors.torch import load_file, save_file
from torch import Tensor
from tuned import perturb, quiet

from spectra import Selection
from spectra.errors import AdapterError, CheckpointError
from spectra.interventions.adapter_factors import edited_tensors
from spectra.weights import open_pair
from spectra.weights.matching.fused import parts_of
from spectra.weights.methods.adapter import open_adapter

WRAPPED: dict[str, Callable[[str], str]] = {
    "compile": lambda name: f"_orig_mod.{name}",
    "fsdp": lambda name: f"_fsdp_wrapped_module.{name.replace('layers.1.', 'layers.1._fsdp_wrapped_module.')}",
    "checkpointing": lambda name: name.replace("layers.1.", "layers.1._checkpoint_wrapped_module."),
    "ddp": lambda name: f"module.{name.replace('layers.0.', 'layers.0._orig_mod.')}",
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, a LoRA adapter with a head saved whole and trained tokens, its state dict, and its merge."""
    folder = tmp_path_factory.mktemp("llama")
    with quiet():
        FAMILIES["llama"].build().save_pretrained(folder / "base")
        config = peft.LoraConfig(
            r=2,
            lora_alpha=6,
            target_modules=["q_proj", "down_proj"],
            modules_to_save=["lm_head"],
            trainable_token_indices={"embed_tokens": [1, 5]},
        )
        model = peft.get_peft_model(FAMILIES["llama"].build(), config)
        perturb(model)
        model.save_pretrained(folder / "adapter")
        write(folder / "raw", {name: W.clone() for name, W in model.state_dict().items()}, folder / "base")
        model.merge_and_unload().save_pretrained(folder / "merged")
    return folder


def write(folder: Path, tensors: dict[str, Tensor], like: Path) -> Path:
    folder.mkdir(parents=True)
    save_file({name: W.contiguous() for name, W in tensors.items()}, folder / "model.safetensors")
    if (like / "config.json").is_file():
        shutil.copy(like / "config.json", folder)
    return folder


def tuned(pair: object) -> dict[str, Tensor]:
    return {str(matrix.name): matrix.W_tuned() for matrix in pair.matrices}  # type: ignore[attr-defined]


def merged(llama: Path) -> dict[str, Tensor]:
    return load_file(llama / "merged" / "model.safetensors")


def assert_merged(found: dict[str, Tensor], llama: Path) -> None:
    truth = merged(llama)
    for name, W in found.items():
        (stored,) = [other for other in truth if other.removeprefix("model.") == f"{name}.weight"]
        torch.testing.assert_close(W, truth[stored], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_wrappers_anywhere_in_a_name_are_taken_off(wrapper: str, llama: Path, tmp_path: Path) -> None:
    base = llama / "base"
    wrapped = {WRAPPED[wrapper](name): W for name, W in merged(llama).items()}
    pair = open_pair(base, write(tmp_path / wrapper, wrapped, base))
    assert pair.coverage is not None and (pair.coverage.matrices, pair.coverage.compared) == (14, 14)
    assert not pair.coverage.gaps
    assert_merged(tuned(pair), llama)


def test_factors_inside_a_full_checkpoint_come_on_top_of_its_weights(llama: Path) -> None:
    with pytest.raises(AdapterError, match=r"nothing says their alpha.*--lora-alpha"):
        open_pair(llama / "base", llama / "raw")
    pair = open_pair(llama / "base", llama / "raw", Selection(lora_alpha=6, include="layers|lm_head"))
    assert pair.method == "lora inside a full checkpoint" and len(pair.matrices) == 15
    assert_merged(tuned(pair), llama)


def test_a_head_saved_whole_and_trained_tokens_are_compared_when_they_are_named(llama: Path) -> None:
    pair = open_pair(llama / "base", llama / "adapter", Selection(include="."))
    assert {"lm_head", "embed_tokens", "layers.0.self_attn.q_proj"} <= tuned(pair).keys()
    assert_merged(tuned(pair), llama)


def test_a_raw_adapter_is_written_under_the_names_that_peft_loads(llama: Path, tmp_path: Path) -> None:
    shutil.copytree(llama / "adapter", tmp_path / "raw")
    raw = load_file(llama / "raw" / "model.safetensors")
    save_file(raw, tmp_path / "raw" / "adapter_model.safetensors")
    names = edited_tensors(open_adapter(tmp_path / "raw"), []).keys()
    assert "lm_head.weight" in names
    assert not any("modules_to_save" in name or "original_module" in name for name in names)


def test_an_adapter_named_by_its_file_is_the_adapter(llama: Path) -> None:
    by_file = open_pair(llama / "base", llama / "adapter" / "adapter_model.safetensors")
    assert by_file.kind == "adapter" and len(by_file.matrices) == 4
    assert_merged(tuned(by_file), llama)


def test_a_folder_with_a_model_and_an_adapter_says_what_it_takes(llama: Path, tmp_path: Path) -> None:
    outputs = shutil.copytree(llama / "merged", tmp_path / "outputs")
    shutil.copytree(llama / "adapter", outputs / "checkpoint-60")
    pair = open_pair(llama / "base", outputs)
    assert pair.kind == "full" and "the model is taken" in pair.warnings[0]
    assert open_pair(llama / "base", outputs, Selection(adapter_name="checkpoint-60")).kind == "adapter"
    shutil.copytree(llama / "adapter", outputs, dirs_exist_ok=True)
    with pytest.raises(AdapterError, match="--take model or --take adapter"):
        open_pair(llama / "base", outputs)
    assert open_pair(llama / "base", outputs, Selection(take="model")).kind == "full"
    assert open_pair(llama / "base", outputs, Selection(take="adapter")).kind == "adapter"


def test_what_is_missing_on_either_side_is_counted_and_warned_of(llama: Path, tmp_path: Path) -> None:
    half = {name: W for name, W in merged(llama).items() if "layers.1.mlp" not in name}
    half["model.layers.2.mlp.up_proj.weight"] = half["model.layers.0.mlp.up_proj.weight"].clone()
    pair = open_pair(llama / "base", write(tmp_path / "half", half, llama / "base"))
    coverage = pair.coverage
    assert coverage is not None
    assert (coverage.matrices, coverage.compared, coverage.missing_in_checkpoint, coverage.missing_in_base) == (
        *(14, 11, 3, 1),
    )
    assert (
        "3 of the base are missing in the checkpoint; 1 of the checkpoint are missing in the base" in pair.warnings[0]
    )


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.weight", "_fsdp_wrapped_module._flat_param"])
def test_weights_that_were_not_gathered_are_refused(name: str, llama: Path, tmp_path: Path) -> None:
    empty = torch.zeros(7 if "flat" in name else 0)
    left = write(tmp_path / "left", {**merged(llama), name: empty}, llama / "base")
    with pytest.raises(CheckpointError, match=r"zero_to_fp32|FULL_STATE_DICT"):
        open_pair(llama / "base", left)


def test_alternating_gates_and_ups_meet_experts_stored_apart(tmp_path: Path) -> None:
    with quiet():
        FAMILIES["gpt_oss"].build().save_pretrained(tmp_path / "fused")
    fused = load_file(tmp_path / "fused" / "model.safetensors")
    apart: dict[str, Tensor] = {}
    for name, W in fused.items():
        stem, _, leaf = name.rpartition(".")
        if leaf == "gate_up_proj":
            turned = W.mT
            for part, rows in (("gate_proj", turned[:, 0::2]), ("up_proj", turned[:, 1::2])):
                apart[f"{stem}.{part}.weight"] = rows  # as mlx writes them
        elif leaf == "down_proj":
            apart[f"{stem}.down_proj.weight"] = W.mT
        else:
            apart[name] = W
    other = write(tmp_path / "apart", apart, tmp_path / "fused")
    for base, checkpoint in ((tmp_path / "fused", other), (other, tmp_path / "fused")):
        pair = open_pair(base, checkpoint)
        assert sum(matrix.name.block == "expert" for matrix in pair.matrices) == 2 * 3 * 3
        assert pair.coverage is not None and not pair.coverage.gaps
        assert all(float(matrix.delta_W().abs().max()) == 0 for matrix in pair.matrices)


def test_bare_experts_and_heads_are_read_one_by_one(tmp_path: Path) -> None:
    dbrx = _model(
        "DbrxForCausalLM", "DbrxConfig", d_model=16, n_heads=4, n_layers=1, max_seq_len=16, vocab_size=32,
        attn_config={"kv_n_heads": 2, "clip_qkv": 8, "rope_theta": 1e4},
        ffn_config={"ffn_hidden_size": 8, "moe_num_experts": 3, "moe_top_k": 1},
    )  # fmt: skip
    with quiet():
        model = dbrx()
        model.save_pretrained(tmp_path / "dbrx")
    matrices = {str(m.name): m.W0.load() for m in open_pair(tmp_path / "dbrx", tmp_path / "dbrx").matrices}
    experts = model.transformer.blocks[0].ffn.experts.mlp
    X = torch.randn(2, 16)
    for e in range(3):
        name = f"blocks.0.ffn.experts.{e}"
        w1, v1, w2 = (getattr(experts, part).view(3, 8, 16)[e] for part in ("w1", "v1", "w2"))
        hidden = torch.nn.functional.silu(X @ matrices[f"{name}.w1"].T) * (X @ matrices[f"{name}.v1"].T)
        torch.testing.assert_close(hidden @ matrices[f"{name}.w2"].T, experts(X, w1, v1, w2).detach())


def test_a_conv1d_inside_another_family_is_turned(tmp_path: Path) -> None:
    import transformers

    decoder = transformers.GPT2Config(
        n_embd=16, n_layer=1, n_head=4, vocab_size=32, n_positions=8, add_cross_attention=True, is_decoder=True
    )
    encoder = transformers.ViTConfig(**SIZES, image_size=8, patch_size=4)
    with quiet():
        config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(encoder, decoder)
        transformers.VisionEncoderDecoderModel(config).save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    for matrix in open_pair(tmp_path, tmp_path, Selection(include=r"\.h\.")).matrices:
        (name,) = [other for other in stored if other.endswith(f"{matrix.name}.weight")]
        assert torch.equal(matrix.W0.load(), stored[name].T)


def test_a_depthwise_convolution_is_set_aside(tmp_path: Path) -> None:
    mamba = _model("MambaForCausalLM", "MambaConfig", hidden_size=16, state_size=4, num_hidden_layers=1, **TOKENS)
    with quiet():
        mamba().save_pretrained(tmp_path)
    pair = open_pair(tmp_path, tmp_path)
    assert not any("conv1d" in str(matrix.name) for matrix in pair.matrices)
    assert pair.coverage is not None and pair.coverage.compared == pair.coverage.matrices == 4
    assert any(skipped.name.endswith("conv1d") and "groups" in skipped.reason for skipped in pair.skipped)


VISION = {"text_config": {"num_attention_heads": 16, "num_key_value_heads": 2}, "vision_config": {"num_heads": 4}}


@pytest.mark.parametrize(
    ("module", "shape", "config", "rows"),
    [
        ("visual.blocks.0.attn.qkv", (240, 80), VISION, (80, 80, 80)),
        ("model.layers.0.self_attn.qkv_proj", (160, 128), VISION["text_config"], (128, 16, 16)),
        ("layers.1.attn.qkv_proj", (80, 32), {"num_query_heads": [4, 6], "num_kv_heads": [1, 2]}, (48, 16, 16)),
        ("blocks.0.attn.Wqkv", (96, 64), {"n_heads": 8, "attn_config": {"kv_n_heads": 2}}, (64, 16, 16)),
        ("resblocks.0.attn.in_proj_weight", (48, 16), {}, (16, 16, 16)),
        ("model.layers.0.self_attn.qkv_proj", (120, 80), {}, None),
        ("visual.blocks.0.attn.qkv", (240, 80), {"text_config": {"num_attention_heads": 16}}, None),
    ],
)
def test_a_fused_matrix_is_cut_only_where_its_own_heads_are_known(
    module: str, shape: tuple[int, int], config: dict, rows: tuple[int, ...] | None
) -> None:
    parts = parts_of(module, shape, config)
    assert (parts and tuple(stop - start for ((start, stop),) in parts.values())) == rows


def test_a_fused_matrix_that_stays_whole_is_named(tmp_path: Path) -> None:
    W = {"model.layers.0.self_attn.qkv_proj.weight": torch.randn(30, 10)}
    base = write(tmp_path / "base", W, tmp_path)
    (told,) = open_pair(base, base, Selection(split_fused=True)).warnings
    assert told.startswith("--split-fused leaves 1 fused matrices whole")
