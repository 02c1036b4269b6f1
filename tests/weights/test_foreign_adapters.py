"""Adapters that peft did not save: each against its own program's formula, or against peft's layer of the method."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from tuned import quiet

from spectra import Selection
from spectra.errors import AdapterError, CheckpointError
from spectra.weights import open_pair
from spectra.weights.dialects.ldm_names import diffusers_names, flattened_diffusers_name

BLOCK = "down_blocks.0.attentions.1.transformer_blocks.0"
LINEARS = (f"{BLOCK}.attn1.to_q", f"{BLOCK}.attn1.to_out.0", f"{BLOCK}.ff.net.0.proj")
CONV = "down_blocks.0.resnets.1.conv1"
RANK = 2


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    """A few weights of a UNet under diffusers' names."""
    weights = {f"{module}.weight": random(12, 8, seed=place) for place, module in enumerate(LINEARS)}
    weights |= {f"{CONV}.weight": random(6, 4, 3, 3), "conv_in.weight": random(4, 4, 3, 3)}
    (tmp_path / "unet").mkdir()
    save_file(weights, tmp_path / "unet/diffusion_pytorch_model.safetensors")
    (tmp_path / "unet/config.json").write_text('{"_class_name": "UNet2DConditionModel"}')
    return tmp_path / "unet"


def factors(module: str) -> tuple[Tensor, Tensor]:
    return random(RANK, 8, seed=len(module)), random(12, RANK, seed=len(module) + 1)


def kohya(module: str) -> str:
    return f"lora_unet_{module.replace('.', '_')}"


def processor(module: str, side: str) -> str:
    """The name that diffusers used before it used peft."""
    parent, _, leaf = module.removesuffix(".0").rpartition(".")
    return f"unet.{parent}.processor.{leaf}_lora.{side}.weight"


ALPHA = torch.tensor(3.0)
SPELLINGS: Mapping[str, tuple[Callable[[str, Tensor, Tensor], Mapping[str, Tensor]], float]] = {
    "kohya": (
        lambda m, A, B: {
            f"{kohya(m)}.lora_down.weight": A, f"{kohya(m)}.lora_up.weight": B, f"{kohya(m)}.alpha": ALPHA.clone()
        },
        1.5,
    ),
    "kohya without alpha": (
        lambda m, A, B: {f"{kohya(m)}.lora_down.weight": A, f"{kohya(m)}.lora_up.weight": B}, 1.0
    ),
    "diffusers": (lambda m, A, B: {f"unet.{m}.lora_A.weight": A, f"unet.{m}.lora_B.weight": B}, 1.0),
    "diffusers, dotted": (lambda m, A, B: {f"unet.{m}.lora.down.weight": A, f"unet.{m}.lora.up.weight": B}, 1.0),
    "comfy": (
        lambda m, A, B: {f"diffusion_model.{m}.lora_A.weight": A, f"diffusion_model.{m}.lora_B.weight": B}, 1.0
    ),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_single_file_lora_is_scaling_times_up_times_down(spelling: str, unet: Path, tmp_path: Path) -> None:
    named, scaling = SPELLINGS[spelling]
    tensors = {name: W for module in LINEARS for name, W in named(module, *factors(module)).items()}
    save_file(tensors, tmp_path / "lora.safetensors")
    pair = open_pair(unet, tmp_path / "lora.safetensors")
    assert (pair.kind, pair.method) == ("adapter", "lora")
    assert {str(matrix.name) for matrix in pair.matrices} == set(LINEARS)
    for matrix in pair.matrices:
        A, B = factors(str(matrix.name))
        torch.testing.assert_close(matrix.delta_W(), scaling * B @ A)


def test_factors_of_attention_processors_belong_to_the_projections(unet: Path, tmp_path: Path) -> None:
    attention = LINEARS[:2]
    tensors = {processor(m, side): W for m in attention for side, W in zip(("down", "up"), factors(m), strict=True)}
    save_file(tensors, tmp_path / "pytorch_lora_weights.safetensors")
    pair = open_pair(unet, tmp_path)
    assert {str(matrix.name) for matrix in pair.matrices} == set(attention)


def test_diffusers_keeps_alpha_in_the_header(unet: Path, tmp_path: Path) -> None:
    A, B = factors(LINEARS[0])
    told = {"unet.r": RANK, "unet.lora_alpha": 8, "unet.alpha_pattern": {}, "unet.rank_pattern": {}}
    save_file(
        {f"unet.{LINEARS[0]}.lora_A.weight": A, f"unet.{LINEARS[0]}.lora_B.weight": B},
        tmp_path / "pytorch_lora_weights.safetensors",
        metadata={"lora_adapter_metadata": json.dumps(told)},
    )
    (matrix,) = open_pair(unet, tmp_path).matrices
    torch.testing.assert_close(matrix.delta_W(), 8 / RANK * B @ A)


def test_what_belongs_to_another_component_is_set_aside(unet: Path, tmp_path: Path) -> None:
    A, B = factors(LINEARS[0])
    text = "text_model_encoder_layers_0_self_attn_q_proj"
    tensors = {
        f"{kohya(LINEARS[0])}.lora_down.weight": A, f"{kohya(LINEARS[0])}.lora_up.weight": B,
        f"lora_te_{text}.lora_down.weight": A.clone(), f"lora_te_{text}.lora_up.weight": B.clone(),
    }  # fmt: skip
    save_file(tensors, tmp_path / "lora.safetensors")
    pair = open_pair(unet, tmp_path / "lora.safetensors")
    assert len(pair.matrices) == 1
    assert any(text in skipped.name and "trained for the lora_te" in skipped.reason for skipped in pair.skipped)


def test_a_lora_for_another_model_is_refused_by_its_names(unet: Path, tmp_path: Path) -> None:
    save_file(
        {"lora_unet_x_to_q.lora_down.weight": random(2, 8), "lora_unet_x_to_q.lora_up.weight": random(12, 2)},
        tmp_path / "lora.safetensors",
    )
    with pytest.raises(AdapterError, match=r"such as 'x_to_q', is in .*which has"):
        open_pair(unet, tmp_path / "lora.safetensors")


PEFT = {
    "loha": (lambda: peft.LoHaConfig(r=RANK, alpha=3, target_modules=["layer"], init_weights=False), LINEARS[0]),
    "loha with a core": (
        lambda: peft.LoHaConfig(
            r=RANK, alpha=3, target_modules=["layer"], init_weights=False, use_effective_conv2d=True
        ),
        CONV,
    ),
    "lokr": (lambda: peft.LoKrConfig(r=1, alpha=3, target_modules=["layer"], init_weights=False), LINEARS[0]),
    "lokr, both in factors": (
        lambda: peft.LoKrConfig(
            r=1, alpha=3, target_modules=["layer"], init_weights=False, decompose_both=True, decompose_factor=2
        ),
        LINEARS[0],
    ),
    "lokr with a core": (
        lambda: peft.LoKrConfig(
            r=1, alpha=3, target_modules=["layer"], init_weights=False, use_effective_conv2d=True, decompose_factor=2
        ),
        CONV,
    ),
}


@pytest.mark.parametrize("case", PEFT)
def test_lycoris_products_are_those_of_peft(case: str, unet: Path, tmp_path: Path) -> None:
    configure, module = PEFT[case]
    root = nn.Module()
    torch.manual_seed(0)
    root.layer = nn.Conv2d(4, 6, 3, bias=False) if module == CONV else nn.Linear(8, 12, bias=False)
    with quiet():
        model = peft.get_peft_model(root, configure())
    layer = model.base_model.model.layer
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "base_layer" not in name:
                parameter.copy_(random(*parameter.shape, seed=len(name)))
    parts = {
        f"{kohya(module)}.{name.removesuffix('.default')}": parameter.detach().contiguous()
        for name, parameter in layer.named_parameters()
        if "base_layer" not in name
    }
    save_file({**parts, f"{kohya(module)}.alpha": torch.tensor(3.0)}, tmp_path / "lora.safetensors")
    (matrix,) = open_pair(unet, tmp_path / "lora.safetensors").matrices
    torch.testing.assert_close(matrix.delta_W(), layer.get_delta_weight("default").detach().flatten(1))


def test_locon_has_the_kernel_between_its_factors(unet: Path, tmp_path: Path) -> None:
    up, mid, down = random(6, RANK, 1, 1), random(RANK, RANK, 3, 3), random(RANK, 4, 1, 1)
    name = kohya(CONV)
    save_file(
        {f"{name}.lora_up.weight": up, f"{name}.lora_mid.weight": mid, f"{name}.lora_down.weight": down},
        tmp_path / "lora.safetensors",
    )
    (matrix,) = open_pair(unet, tmp_path / "lora.safetensors").matrices
    # The three convolutions one after the other are the one whose kernel is looked for.
    x = random(1, 4, 5, 5)
    conv = torch.nn.functional.conv2d
    expected = conv(conv(conv(x, down), mid), up)
    torch.testing.assert_close(conv(x, matrix.delta_W().reshape(6, 4, 3, 3)), expected, atol=1e-4, rtol=1e-4)


def test_dora_is_told_apart_by_the_shape_of_its_magnitudes(unet: Path, tmp_path: Path) -> None:
    A, B = factors(LINEARS[0])
    for shape, axis in (((12, 1), 1), ((1, 8), 0)):
        magnitude = random(*shape).abs()
        name = kohya(LINEARS[0])
        save_file(
            {f"{name}.lora_down.weight": A, f"{name}.lora_up.weight": B, f"{name}.dora_scale": magnitude},
            tmp_path / "lora.safetensors",
        )
        (matrix,) = open_pair(unet, tmp_path / "lora.safetensors").matrices
        direction = matrix.W0.load() + B @ A
        expected = magnitude * direction / direction.norm(dim=axis, keepdim=True)
        torch.testing.assert_close(matrix.W_tuned(), expected)


def test_parts_that_nobody_knows_are_refused(unet: Path, tmp_path: Path) -> None:
    name = kohya(LINEARS[0])
    save_file(
        {f"{name}.lora_down.weight": random(2, 8), f"{name}.oft_blocks": random(2, 2)}, tmp_path / "a.safetensors"
    )
    with pytest.raises(AdapterError, match=r"does not know: .*oft_blocks"):
        open_pair(unet, tmp_path / "a.safetensors")
    save_file({f"{name}.lora_down.weight": random(2, 8)}, tmp_path / "b.safetensors")
    with pytest.raises(AdapterError, match="incomplete"):
        open_pair(unet, tmp_path / "b.safetensors")


def test_the_names_of_single_file_models_lead_to_diffusers_names() -> None:
    # The layers of Stable Diffusion 1: two to a resolution going down, three going up.
    pairs = {
        "input_blocks.1.1.proj_in": "down_blocks.0.attentions.0.proj_in",
        "input_blocks.3.0.op": "down_blocks.0.downsamplers.0.conv",
        "input_blocks.5.0.in_layers.2": "down_blocks.1.resnets.1.conv1",
        "middle_block.1.proj_in": "mid_block.attentions.0.proj_in",
        "middle_block.2.out_layers.3": "mid_block.resnets.1.conv2",
        "output_blocks.2.1.conv": "up_blocks.0.upsamplers.0.conv",
        "output_blocks.5.2.conv": "up_blocks.1.upsamplers.0.conv",
        "output_blocks.11.1.transformer_blocks.0.ff.net.2": "up_blocks.3.attentions.2.transformer_blocks.0.ff.net.2",
        "output_blocks.4.0.skip_connection": "up_blocks.1.resnets.1.conv_shortcut",
        "time_embed.2": "time_embedding.linear_2",
    }
    assert diffusers_names(pairs) == pairs
    for theirs, ours in pairs.items():
        assert flattened_diffusers_name(theirs.replace(".", "_")) == ours.replace(".", "_")
    assert flattened_diffusers_name("down_blocks_0_resnets_0_conv1") is None


def test_a_lora_under_the_authors_names_fits_a_folder_of_diffusers(unet: Path, tmp_path: Path) -> None:
    # As kohya writes LoRA for SDXL.
    module = f"lora_unet_input_blocks_2_1_{LINEARS[0].partition('attentions.1.')[2].replace('.', '_')}"
    A, B = factors(LINEARS[0])
    save_file({f"{module}.lora_down.weight": A, f"{module}.lora_up.weight": B}, tmp_path / "lora.safetensors")
    (matrix,) = open_pair(unet, tmp_path / "lora.safetensors").matrices
    assert str(matrix.name) == LINEARS[0]
    torch.testing.assert_close(matrix.delta_W(), B @ A)


def test_a_lora_under_diffusers_names_fits_a_single_file_model(tmp_path: Path) -> None:
    # Beside a text encoder with numbered layers, the blocks of the UNet still count as blocks.
    stored = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q"
    text = "cond_stage_model.transformer.text_model.encoder.layers.0.self_attn.q_proj"
    save_file({f"{stored}.weight": random(12, 8), f"{text}.weight": random(8, 8)}, tmp_path / "sd.safetensors")
    module = kohya("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q")
    te = "lora_te_text_model_encoder_layers_0_self_attn_q_proj"
    A, B = random(RANK, 8), random(12, RANK)
    tensors = {
        f"{module}.lora_down.weight": A, f"{module}.lora_up.weight": B,
        f"{te}.lora_down.weight": random(RANK, 8, seed=1), f"{te}.lora_up.weight": random(8, RANK),
    }  # fmt: skip
    save_file(tensors, tmp_path / "lora.safetensors")
    pair = open_pair(tmp_path / "sd.safetensors", tmp_path / "lora.safetensors")
    assert len(pair.matrices) == 2
    (matrix,) = (matrix for matrix in pair.matrices if "attn1" in str(matrix.name))
    torch.testing.assert_close(matrix.delta_W(), B @ A)


LAYER = "model.layers.0"
HEADS = 2


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    """The matrices of one layer, and an embedding."""
    names = ("self_attn.q_proj", "self_attn.k_proj", "mlp.down_proj", "mlp.experts.0.up_proj", "mlp.experts.1.up_proj")
    weights = {f"{LAYER}.{name}.weight": random(8, 8, seed=place) for place, name in enumerate(names)}
    weights["model.embed_tokens.weight"] = random(10, 8)
    folder = tmp_path / "llama"
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"num_attention_heads": HEADS, "num_key_value_heads": HEADS}))
    return folder


def mlx(folder: Path, tensors: Mapping[str, Tensor], **config: object) -> Path:
    (folder / "mlx").mkdir(exist_ok=True)
    save_file(dict(tensors), folder / "mlx/adapters.safetensors")
    told = {"fine_tune_type": "lora", "lora_parameters": {"rank": RANK, "scale": 20.0}, **config}
    (folder / "mlx/adapter_config.json").write_text(json.dumps(told))
    return folder / "mlx"


@pytest.mark.parametrize("given", ["folder", "file"])
def test_mlx_factors_are_turned_and_scaled(given: str, llama: Path, tmp_path: Path) -> None:
    a, b = random(8, RANK), random(RANK, 8)
    vocabulary, d = random(10, RANK), random(RANK, 8, seed=3)
    folder = mlx(
        tmp_path,
        {
            f"{LAYER}.mlp.down_proj.lora_a": a, f"{LAYER}.mlp.down_proj.lora_b": b,
            "model.embed_tokens.lora_a": vocabulary, "model.embed_tokens.lora_b": d,
        },
        model=str(llama),
    )  # fmt: skip
    pair = open_pair(
        None, folder if given == "folder" else folder / "adapters.safetensors", selection=Selection(include=".")
    )
    deltas = {str(matrix.name): matrix.delta_W() for matrix in pair.matrices}
    torch.testing.assert_close(deltas["layers.0.mlp.down_proj"], 20 * (a @ b).T)
    torch.testing.assert_close(deltas["embed_tokens"], 20 * vocabulary @ d)


def test_mlx_experts_share_a_switch(llama: Path, tmp_path: Path) -> None:
    a, b = random(2, RANK, 8), random(2, 8, RANK)
    name = f"{LAYER}.mlp.switch_mlp.up_proj"
    folder = mlx(tmp_path, {f"{name}.lora_a": a, f"{name}.lora_b": b})
    for expert, matrix in enumerate(open_pair(llama, folder).matrices):
        torch.testing.assert_close(matrix.delta_W(), 20 * b[expert] @ a[expert])


def test_mlx_factors_without_their_scale_are_refused(llama: Path, tmp_path: Path) -> None:
    name = f"{LAYER}.mlp.down_proj"
    save_file({f"{name}.lora_a": random(8, 2), f"{name}.lora_b": random(2, 8)}, tmp_path / "adapters.safetensors")
    with pytest.raises(AdapterError, match=r"adapter of mlx-lm, and no .* beside it holds its scale"):
        open_pair(llama, tmp_path / "adapters.safetensors")


def interleaved(W: Tensor) -> Tensor:
    """Rows of queries and keys as Meta's code orders them: the halves of a head alternate."""
    return W.reshape(HEADS, 2, W.shape[0] // HEADS // 2, -1).transpose(1, 2).reshape(W.shape)


@pytest.mark.parametrize("alpha", [6.0, 0.0])
def test_a_gguf_lora_is_put_back_into_the_order_of_transformers(alpha: float, llama: Path, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "lora.gguf", "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    expected = {}
    for place, (name, theirs) in enumerate((("self_attn.q_proj", "attn_q"), ("mlp.down_proj", "ffn_down"))):
        A, B = random(RANK, 8, seed=place), random(8, RANK, seed=place)
        expected[f"layers.0.{name}"] = (alpha / RANK or 1.0) * B @ A
        stored = interleaved(B) if theirs == "attn_q" else B
        writer.add_tensor(f"blk.0.{theirs}.weight.lora_a", A.numpy())
        writer.add_tensor(f"blk.0.{theirs}.weight.lora_b", stored.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    matrices = open_pair(llama, tmp_path / "lora.gguf").matrices
    assert {str(matrix.name) for matrix in matrices} == expected.keys()
    for matrix in matrices:
        torch.testing.assert_close(matrix.delta_W(), expected[str(matrix.name)])


@pytest.mark.parametrize("names", [("attn.q_proj", "lora_a", "lora_b"), ("attention.wq", "lora_A", "lora_B")])
def test_torchtune_and_mistral_factors_stand_under_their_authors_names(
    names: tuple[str, str, str], llama: Path, tmp_path: Path
) -> None:
    module, a, b = names
    A, B = random(RANK, 8), random(8, RANK)
    tensors = {f"layers.0.{module}.{a}.weight": A, f"layers.0.{module}.{b}.weight": interleaved(B).contiguous()}
    torch.save(tensors, tmp_path / "adapter_0.pt")
    with pytest.raises(AdapterError, match="nothing beside it says its alpha"):
        open_pair(llama, tmp_path / "adapter_0.pt", Selection(allow_pickle=True))
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 8}))
    (matrix,) = open_pair(llama, tmp_path / "adapter_0.pt", Selection(allow_pickle=True)).matrices
    torch.testing.assert_close(matrix.delta_W(), 4 * B @ A)


def native(llama: Path, family: str, *, in_order: bool = False) -> Mapping[str, Tensor]:
    """The same weights, a little tuned, as the model's authors name and order them."""
    from safetensors.torch import load_file

    weights = {name: W + 0.01 * random(*W.shape, seed=7) for name, W in load_file(llama / "model.safetensors").items()}
    q, k = (weights[f"{LAYER}.self_attn.{part}.weight"] for part in ("q_proj", "k_proj"))
    down = weights[f"{LAYER}.mlp.down_proj.weight"]
    if family == "litgpt":
        return {"transformer.h.0.attn.qkv.weight": torch.cat([q, k, k + 1]), "transformer.h.0.mlp.proj.weight": down}
    order = (lambda W: W) if in_order else interleaved
    return {
        "layers.0.attention.wq.weight": order(q),
        "layers.0.attention.wk.weight": order(k),
        "layers.0.feed_forward.w2.weight": down,
    }


@pytest.mark.parametrize(("family", "in_order"), [("mistral", False), ("mistral", True), ("litgpt", True)])
def test_a_checkpoint_under_its_authors_names_is_compared(
    family: str, in_order: bool, llama: Path, tmp_path: Path
) -> None:
    save_file(dict(native(llama, family, in_order=in_order)), tmp_path / "consolidated.safetensors")
    for base, tuned, sign in (
        (llama, tmp_path / "consolidated.safetensors", 1),
        (tmp_path / "consolidated.safetensors", llama, -1),
    ):
        pair = open_pair(base, tuned)
        expected = sign * 0.01 * random(8, 8, seed=7)
        assert {str(matrix.name) for matrix in pair.matrices} == {
            "layers.0.self_attn.q_proj", "layers.0.self_attn.k_proj", "layers.0.mlp.down_proj"
        }  # fmt: skip
        for matrix in pair.matrices:
            torch.testing.assert_close(matrix.delta_W(), expected, atol=1e-5, rtol=1e-3)


def test_an_adapter_is_no_base(llama: Path, tmp_path: Path) -> None:
    name = f"{LAYER}.mlp.down_proj"
    folder = mlx(tmp_path, {f"{name}.lora_a": random(8, RANK), f"{name}.lora_b": random(RANK, 8)})
    with pytest.raises(CheckpointError):
        open_pair(folder, llama)
