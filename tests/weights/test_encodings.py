"""Weights in few bits beside their scales: read as what they stand for, and never without their scales."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from spectra.errors import CheckpointError
from spectra.weights import open_pair

MODULE = "model.layers.0.mlp.down_proj"
NAME = f"{MODULE}.weight"
FP8 = torch.float8_e4m3fn


def codes(d_out: int, d_in: int, dtype: torch.dtype = FP8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(d_out, d_in, generator=generator)
    return values.to(dtype) if dtype.is_floating_point else (20 * values).to(dtype)


def opened(folder: Path, tensors: Mapping[str, Tensor], **config: object) -> Tensor:
    """The one matrix of a checkpoint, read in whole and by rows."""
    save_file(dict(tensors), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    pair = open_pair(folder, folder)
    (matrix,) = pair.matrices
    assert "dequantised" in pair.warnings[0]
    whole = matrix.W0.load()
    torch.testing.assert_close(matrix.W0.rows(1, 4).float(), whole[1:4])
    return whole


SCALES = {
    "one for all": (torch.tensor(0.25), torch.full((6, 8), 0.25)),
    "one in a list": (torch.tensor([0.25]), torch.full((6, 8), 0.25)),
    "one per row": (torch.arange(1.0, 7)[:, None], torch.arange(1.0, 7)[:, None].expand(6, 8)),
    "one per row, flat": (torch.arange(1.0, 7), torch.arange(1.0, 7)[:, None].expand(6, 8)),
    "one per column": (torch.arange(1.0, 9)[None], torch.arange(1.0, 9).expand(6, 8)),
    "one per block": (
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]).repeat_interleave(3, 0).repeat_interleave(4, 1),
    ),
}


@pytest.mark.parametrize("tail", ["weight_scale", "weight_scale_inv", "scale_weight", "qscale_weight"])
@pytest.mark.parametrize("scale", SCALES)
def test_eight_bits_are_multiplied_by_their_scales(scale: str, tail: str, tmp_path: Path) -> None:
    stored, expanded = SCALES[scale]
    tensors = {NAME: codes(6, 8), f"{MODULE}.{tail}": stored.clone(), f"{MODULE}.input_scale": torch.tensor(9.0)}
    torch.testing.assert_close(opened(tmp_path, tensors), codes(6, 8).float() * expanded)


def test_blocks_may_be_cut_off_at_the_edge(tmp_path: Path) -> None:
    scale = torch.rand(2, 3)
    expected = codes(6, 8).float() * scale.repeat_interleave(4, 0)[:6].repeat_interleave(3, 1)[:, :8]
    tensors = {NAME: codes(6, 8), f"{MODULE}.weight_scale_inv": scale}
    quantisation = {"quant_method": "fp8", "weight_block_size": [4, 3]}
    torch.testing.assert_close(opened(tmp_path, tensors, quantization_config=quantisation), expected)


def test_integers_with_a_scale_are_weights(tmp_path: Path) -> None:
    scale = torch.rand(6, 1)
    tensors = {NAME: codes(6, 8, torch.int8), f"{MODULE}.weight_scale": scale}
    torch.testing.assert_close(opened(tmp_path, tensors), codes(6, 8, torch.int8) * scale)


@pytest.mark.parametrize("dtype", [FP8, torch.float8_e5m2])
def test_a_plain_cast_is_read_as_it_stands(dtype: torch.dtype, tmp_path: Path) -> None:
    assert torch.equal(opened(tmp_path, {NAME: codes(6, 8, dtype)}), codes(6, 8, dtype).float())


@pytest.mark.parametrize(
    ("others", "config", "message"),
    [
        ({}, {"quantization_config": {"quant_method": "fp8"}}, "lack their scales"),
        ({"scaled_fp8": torch.zeros(0)}, {}, "lack their scales"),
        ({"x.weight": codes(4, 4), "x.weight_scale": torch.tensor(2.0)}, {}, "lack their scales"),
        ({f"{MODULE}.strange_scale": torch.tensor(2.0)}, {}, "does not know what 'strange_scale'"),
        ({f"{MODULE}.weight_scale": torch.rand(5, 7)}, {}, "does not fit"),
    ],
)
def test_eight_bits_are_never_read_without_their_scales(
    others: Mapping[str, Tensor], config: Mapping[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=message):
        opened(tmp_path, {NAME: codes(6, 8), **others}, **config)


def test_mxfp4_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    generator = torch.Generator().manual_seed(1)
    blocks = torch.randint(0, 256, (2, 6, 2, 16), dtype=torch.uint8, generator=generator)
    scales = torch.randint(120, 130, (2, 6, 2), dtype=torch.uint8, generator=generator)
    name = "model.layers.0.mlp.experts.down_proj"
    save_file({f"{name}_blocks": blocks, f"{name}_scales": scales}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"model_type": "gpt_oss", "quantization_config": {"quant_method": "mxfp4"}}')
    expected = convert_moe_packed_tensors(blocks, scales)  # (experts, d_in, d_out)
    matrices = open_pair(tmp_path, tmp_path).matrices
    assert len(matrices) == 2
    for matrix, W in zip(matrices, expected, strict=True):
        assert matrix.shape == (6, 64)
        assert torch.equal(matrix.W0.load(torch.bfloat16), W.mT)
        assert torch.equal(matrix.W0.rows(1, 4), W.mT[1:4])


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_mlx_packs_the_lowest_bits_first(bits: int, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(bits)
    values = torch.randint(0, 2**bits, (4, 64), generator=generator)
    rows = [sum(int(code) << (bits * place) for place, code in enumerate(row)) for row in values]
    words = [[row >> (32 * word) & 0xFFFFFFFF for word in range(2 * bits)] for row in rows]
    scale, bias = torch.rand(4, 2, generator=generator), torch.rand(4, 2, generator=generator)
    tensors = {
        NAME: torch.tensor(words, dtype=torch.int64).to(torch.uint32),
        f"{MODULE}.scales": scale,
        f"{MODULE}.biases": bias,
    }
    expected = values * scale.repeat_interleave(32, 1) + bias.repeat_interleave(32, 1)
    torch.testing.assert_close(opened(tmp_path, tensors, quantization={"bits": bits, "group_size": 32}), expected)


def test_mlx_weights_without_their_configuration_are_refused(tmp_path: Path) -> None:
    tensors = {NAME: torch.zeros(4, 8, dtype=torch.uint32), f"{MODULE}.scales": torch.ones(4, 1)}
    with pytest.raises(CheckpointError, match=r"packed by mlx, and no config\.json"):
        opened(tmp_path, tensors)


def test_a_leftover_quantisation_in_the_configuration_is_not_believed(tmp_path: Path) -> None:
    save_file({NAME: torch.randn(4, 4)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "gptq", "bits": 4}}')
    assert open_pair(tmp_path, tmp_path).warnings == ()
