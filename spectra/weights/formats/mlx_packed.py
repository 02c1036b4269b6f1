"""Weights as mlx packs them: groups of small integers in 32-bit words, each with a scale and a bias.

W = scale * code + bias,  one scale and one bias for every `group_size` consecutive entries of a row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spectra.errors import CheckpointError
from spectra.weights.formats.decoded import DecodedTensor
from spectra.weights.formats.stored import StoredTensor

WORD_BITS = 32


@dataclass(frozen=True, eq=False)
class MlxTensor(DecodedTensor):
    """A packed weight.

    Attributes:
        scale: One per group.
        bias: One per group.
        bits: Bits of a code.
        group_size: Entries of a group.
    """

    scale: StoredTensor
    bias: StoredTensor
    bits: int
    group_size: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        return *self.codes.shape[:-1], self.codes.shape[-1] * WORD_BITS // self.bits

    @property
    def dtype(self) -> torch.dtype:
        """That of the scales, to which mlx dequantises."""
        return self.scale.dtype

    @property
    def scales(self) -> tuple[StoredTensor, ...]:
        """Scales and biases."""
        return self.scale, self.bias

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Some rows, of one expert where the first axis counts experts."""
        words = self.codes.read_rows(start, stop, expert).contiguous()
        codes = torch.from_numpy(_unpacked(words.view(torch.uint8).numpy(), self.bits))
        group = torch.arange(codes.shape[-1]) // self.group_size
        scale = self.scale.read_rows(start, stop, expert).float()[..., group]
        bias = self.bias.read_rows(start, stop, expert).float()[..., group]
        return (codes.float() * scale + bias).to(self.dtype)


def _unpacked(data: "np.ndarray[Any, np.dtype[np.uint8]]", bits: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    """The codes of rows of bytes: a row is one stream of bits, the lowest first."""
    stream = np.unpackbits(data, axis=-1, bitorder="little")
    codes = stream.reshape(*data.shape[:-1], -1, bits)
    return np.packbits(codes, axis=-1, bitorder="little")[..., 0]


def is_packed(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> bool:
    """True when a weight in 32-bit words has scales beside it."""
    return any(
        tensor.dtype is torch.uint32 and name.endswith(".weight") and f"{name.removesuffix('weight')}scales" in tensors
        for name, tensor in tensors.items()
    )


def unpacked(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> Mapping[str, StoredTensor]:
    """The tensors with packed weights seen as the weights that they stand for.

    Raises:
        CheckpointError: If a weight lacks its biases, or the configuration does not say how it was packed.
    """
    found: dict[str, StoredTensor] = {}
    auxiliary: set[str] = set()
    for name, tensor in tensors.items():
        stem = name.removesuffix("weight")
        scale, bias = tensors.get(f"{stem}scales"), tensors.get(f"{stem}biases")
        if tensor.dtype is not torch.uint32 or scale is None:
            continue
        bits = _bits(stem.rstrip("."), tensor, config)
        entries, groups = tensor.shape[-1] * WORD_BITS // bits, max(1, scale.shape[-1])
        if bias is None or bias.shape != scale.shape or scale.shape[:-1] != tensor.shape[:-1] or entries % groups:
            raise CheckpointError(
                f"'{name}' in '{tensor.path}' is packed in {bits} bits, and its scales and biases do not fit it. "
                "Give the checkpoint that it was quantised from."
            )
        found[name] = MlxTensor(tensor, scale, bias, bits, entries // groups)
        auxiliary |= {f"{stem}scales", f"{stem}biases"}
    return {name: found.get(name, tensor) for name, tensor in tensors.items() if name not in auxiliary}


def _bits(module: str, tensor: StoredTensor, config: Mapping[str, Any]) -> int:
    """Bits of a module's codes: its own entry in the configuration, or the general one."""
    general = config.get("quantization") or config.get("quantization_config")
    general = general if isinstance(general, Mapping) else {}
    own = general.get(module)
    chosen = own if isinstance(own, Mapping) else general
    bits, mode = chosen.get("bits"), chosen.get("mode", "affine")
    if type(bits) is not int or not 1 <= bits <= 8:
        raise CheckpointError(
            f"'{tensor.path}' holds weights packed by mlx, and no config.json beside it says with how many bits "
            "('quantization'). Restore the config.json."
        )
    if mode != "affine":
        raise CheckpointError(
            f"'{tensor.path}' holds weights packed by mlx in mode '{mode}', which spectra cannot dequantise. "
            "Give the checkpoint that it was quantised from."
        )
    return bits
