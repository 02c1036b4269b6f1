"""Quantised bases: dequantised as their formats define it, told apart from originals, or refused."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from families import FAMILIES
from safetensors.torch import save_file
from torch import Tensor
from tuned import quiet

from spectra.errors import CheckpointError
from spectra.weights import open_pair

# The 16 levels of NF4 (Dettmers et al. 2023, arXiv:2305.14314, appendix E), to four digits: any code book will do.
LEVELS = torch.tensor(
    [
        *(-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0),
        *(0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0),
    ]
)
NAME = "model.layers.0.mlp.down_proj.weight"


def four_bit(W: Tensor, blocksize: int, *, nested: bool) -> tuple[Mapping[str, Tensor], Tensor]:
    """Quantise as bitsandbytes stores it, element by element, and what it stands for."""
    blocks = W.flatten().reshape(-1, blocksize)
    magnitudes = blocks.abs().amax(1)
    state = {"quant_type": "nf4", "blocksize": blocksize, "dtype": "float32", "shape": list(W.shape)}
    tensors = {f"{NAME}.quant_map": LEVELS}
    if nested:
        codes = torch.linspace(-1, 1, 256)
        offset = float(magnitudes.mean())
        centred = magnitudes - offset
        scale = centred.abs().max()
        indices = (centred[:, None] / scale - codes).abs().argmin(1)
        magnitudes = codes[indices] * scale + offset
        state |= {"nested_blocksize": 256, "nested_offset": offset, "nested_dtype": "float32"}
        tensors |= {
            f"{NAME}.absmax": indices.to(torch.uint8),
            f"{NAME}.nested_absmax": scale[None],
            f"{NAME}.nested_quant_map": codes,
        }
    else:
        tensors[f"{NAME}.absmax"] = magnitudes
    nearest = (blocks[..., None] / magnitudes[:, None, None] - LEVELS).abs().argmin(-1)
    flat = nearest.flatten().to(torch.uint8)
    tensors[NAME] = (flat[::2] * 16 + flat[1::2])[:, None]
    tensors[f"{NAME}.quant_state.bitsandbytes__nf4"] = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
    return tensors, (LEVELS[nearest] * magnitudes[:, None]).reshape(W.shape)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shape", [(16, 32), (6, 24)], ids=["whole blocks", "blocks across rows"])
def test_four_bits_are_the_levels_times_the_blocks_magnitude(
    shape: tuple[int, int], nested: bool, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    tensors, expected = four_bit(torch.randn(shape), 16, nested=nested)
    save_file(dict(tensors), tmp_path / "model.safetensors")
    pair = open_pair(tmp_path, tmp_path)
    (matrix,) = pair.matrices
    assert matrix.shape == shape and "quantised (bitsandbytes)" in pair.warnings[0]
    torch.testing.assert_close(matrix.W0.load(), expected)
    torch.testing.assert_close(matrix.W0.rows(1, 4), expected[1:4])


@pytest.mark.parametrize("storage", [torch.bfloat16, torch.float16, torch.float32])
def test_four_bits_may_be_packed_as_any_dtype(storage: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors, expected = four_bit(torch.randn(6, 24), 16, nested=False)
    packed = {**tensors, NAME: tensors[NAME].flatten().view(storage)[:, None]}
    save_file(packed, tmp_path / "model.safetensors")
    (matrix,) = open_pair(tmp_path, tmp_path).matrices
    torch.testing.assert_close(matrix.W0.load(), expected)
    torch.testing.assert_close(matrix.W0.rows(1, 4), expected[1:4])


def test_eight_bits_are_scaled_by_row(tmp_path: Path) -> None:
    codes = torch.randint(-127, 128, (6, 5), dtype=torch.int8)
    scales = torch.rand(6)
    save_file(
        {NAME: codes, NAME.replace("weight", "SCB"): scales, f"{NAME}_format": torch.tensor(0, dtype=torch.uint8)},
        tmp_path / "model.safetensors",
    )
    (matrix,) = open_pair(tmp_path, tmp_path).matrices
    torch.testing.assert_close(matrix.W0.load(), codes * scales[:, None] / 127)


def test_a_four_bit_weight_without_its_scales_is_refused(tmp_path: Path) -> None:
    tensors, _ = four_bit(torch.randn(4, 16), 16, nested=False)
    save_file({name: W for name, W in tensors.items() if "absmax" not in name}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=rf"4-bit state of '{NAME}' in '.*' is broken"):
        open_pair(tmp_path, tmp_path)


def rotary_halves_interleaved(W: Tensor, heads: int) -> Tensor:
    """What llama.cpp's converter does to query and key rows."""
    return W.reshape(heads, 2, W.shape[0] // heads // 2, W.shape[1]).transpose(1, 2).reshape(W.shape)


@pytest.fixture
def gguf_file(tmp_path: Path) -> tuple[Path, Mapping[str, Tensor]]:
    """A small Llama as GGUF, half of it in 8 bits, and the tensors it was made from."""
    gguf = pytest.importorskip("gguf")
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        vocab_size=32,
    )  # fmt: skip
    torch.manual_seed(0)
    tensors = transformers.LlamaForCausalLM(config).state_dict()
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 1)
    for name, W in tensors.items():
        heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
        data = (rotary_halves_interleaved(W, heads) if heads else W).numpy()
        kind = gguf.GGMLQuantizationType.Q8_0 if "mlp" in name else gguf.GGMLQuantizationType.F32
        stored = gguf.quants.quantize(np.ascontiguousarray(data), kind)
        writer.add_tensor(names.get_name(name, (".weight",)), stored, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tmp_path / "model.gguf", tensors


def test_gguf_is_dequantised_under_the_familiar_names(gguf_file: tuple[Path, Mapping[str, Tensor]]) -> None:
    file, tensors = gguf_file
    pair = open_pair(file, file)
    assert len(pair.matrices) == 7 and "quantised (GGUF)" in pair.warnings[0]
    for matrix in pair.matrices:
        original = tensors[f"model.{matrix.name}.weight"]
        # Q8_0 keeps 8 bits of the largest magnitude in 32 neighbours.
        atol = float(original.abs().max()) / 127 if matrix.name.block == "mlp" else 0.0
        torch.testing.assert_close(matrix.W0.load(), original, atol=atol, rtol=0)
        assert torch.equal(matrix.W0.rows(3, 9), matrix.W0.load()[3:9])


def test_a_gguf_base_serves_an_adapter(gguf_file: tuple[Path, Mapping[str, Tensor]], tmp_path: Path) -> None:
    import peft

    file, tensors = gguf_file
    with quiet():
        config = peft.LoraConfig(r=2, target_modules=["q_proj"])
        llama = transformers.LlamaConfig(
            hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
            vocab_size=32,
        )  # fmt: skip
        peft.get_peft_model(transformers.LlamaForCausalLM(llama), config).save_pretrained(tmp_path / "adapter")
    (matrix,) = open_pair(file, tmp_path / "adapter").matrices
    assert torch.equal(matrix.W0.load(), tensors["model.layers.0.self_attn.q_proj.weight"])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.write_bytes(b"GGUF"), "no readable GGUF file"),
        (lambda file: file.write_bytes(file.read_bytes()[:-500]), "no readable GGUF file|truncated"),
        (lambda file: file.write_bytes(file.read_bytes().replace(b"llama", b"bloom")), "architecture 'bloom'"),
    ],
)
def test_a_broken_gguf_is_told(spoil, message: str, gguf_file: tuple[Path, Mapping[str, Tensor]]) -> None:
    file, _ = gguf_file
    spoil(file)
    with pytest.raises(CheckpointError, match=message):
        open_pair(file, file)


@pytest.mark.parametrize(
    "tensor", ["model.layers.0.mlp.down_proj.qweight", "model.layers.0.mlp.down_proj.weight_packed"]
)
def test_packings_that_cannot_be_undone_are_refused(tensor: str, tmp_path: Path) -> None:
    save_file({tensor: torch.zeros(4, 4, dtype=torch.int32)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"cannot dequantise .*Give the checkpoint it was quantised from"):
        open_pair(tmp_path, tmp_path)


def test_scanning_holds_one_matrix_at_a_time(tmp_path: Path) -> None:
    # The largest number of bytes that reads ask for at once, counted where tensors are made.
    with quiet():
        FAMILIES["llama"].build().save_pretrained(tmp_path, max_shard_size="8KB")
    pair = open_pair(tmp_path, tmp_path)
    largest = max(4 * rows * columns for rows, columns in (matrix.shape for matrix in pair.matrices))
    made: list[int] = []
    empty = torch.empty

    def counted(*arguments, **settings):
        tensor = empty(*arguments, **settings)
        made.append(tensor.numel() * tensor.element_size())
        return tensor

    torch.empty = counted
    try:
        for matrix in pair.matrices:
            matrix.W0.rows(0, 2)
            matrix.W0.load()
    finally:
        torch.empty = empty
    assert made and max(made) == largest
