"""bitsandbytes checkpoints: 4-bit and 8-bit weights, dequantised from what the file says, without bitsandbytes.

4 bits: every block of consecutive weights is a code book scaled by the block's largest magnitude; those magnitudes
may themselves be 8-bit codes with an offset ("nested"). 8 bits: every row is scaled by its largest magnitude / 127.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from spectra.errors import CheckpointError
from spectra.weights.formats.decoded import DecodedTensor
from spectra.weights.formats.stored import StoredTensor

STATE = ".quant_state.bitsandbytes__"


@dataclass(frozen=True, eq=False)
class FourBitTensor(DecodedTensor):
    """A weight in 4 bits, two to a byte, the first in the high half.

    The bytes may be stored as numbers of another dtype (`bnb_4bit_quant_storage`, which FSDP needs).

    Attributes:
        parts: The tensors beside it, by the last part of their names.
        state: The quantisation state: shape, block size, dtype, offset.
    """

    parts: Mapping[str, StoredTensor]
    state: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        return tuple(self.state["shape"])

    @property
    def dtype(self) -> torch.dtype:
        """The dtype it was quantised from, to which it is dequantised."""
        return getattr(torch, self.state["dtype"])

    @property
    def scales(self) -> tuple[StoredTensor, ...]:
        """Code books and magnitudes."""
        return tuple(self.parts.values())

    @cached_property
    def _magnitudes(self) -> Tensor:
        """Largest magnitude of every block."""
        magnitudes = self.parts["absmax"].read()
        if "nested_absmax" not in self.parts:
            return magnitudes.float()
        nested = self.parts["nested_absmax"].read().float()
        codes = self.parts["nested_quant_map"].read().float()
        block = torch.arange(magnitudes.numel()) // self.state["nested_blocksize"]
        return codes[magnitudes.long()] * nested[block] + self.state["nested_offset"]

    def _elements(self, first: int, last: int) -> Tensor:
        """Weights [first, last) of the flattened matrix."""
        begin, width = first // 2, self.codes.dtype.itemsize
        stored = self.codes.read_rows(begin // width, -(-last // (2 * width)))
        codes = stored.reshape(-1).view(torch.uint8)[begin % width :]
        both = torch.stack([codes >> 4, codes & 15], dim=1).reshape(-1)[first - 2 * begin :][: last - first]
        block = torch.arange(first, last) // self.state["blocksize"]
        values = self.parts["quant_map"].read().float()[both.long()] * self._magnitudes[block]
        return values.to(self.dtype)

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Some rows."""
        row = math.prod(self.shape[1:])
        return self._elements(start * row, stop * row).reshape(stop - start, *self.shape[1:])


@dataclass(frozen=True, eq=False)
class EightBitTensor(DecodedTensor):
    """A weight in 8 bits:  W[i, j] = code[i, j] * magnitude[i] / 127."""

    magnitudes: StoredTensor

    @property
    def scales(self) -> tuple[StoredTensor, ...]:
        """The magnitudes."""
        return (self.magnitudes,)

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Some rows."""
        scales = self.magnitudes.read_rows(start, stop).float().reshape(-1, 1) / 127
        return self.codes.read_rows(start, stop).float() * scales


def dequantised(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> Mapping[str, StoredTensor]:
    """The tensors of a bitsandbytes checkpoint with its quantised weights seen as the weights they stand for.

    Raises:
        CheckpointError: If a weight lacks its scales or its state is malformed.
    """
    found: dict[str, StoredTensor] = {}
    auxiliary: set[str] = set()
    for name, tensor in tensors.items():
        weight, separator, kind = name.partition(STATE)
        if separator:
            parts = {
                part: tensors[f"{weight}.{part}"]
                for part in ("absmax", "quant_map", "nested_absmax", "nested_quant_map")
                if f"{weight}.{part}" in tensors
            }
            found[weight] = _four_bit(weight, kind, tensor, tensors, parts)
            auxiliary |= {name, *(f"{weight}.{part}" for part in parts)}
        elif name.endswith(".SCB") and name.removesuffix("SCB") + "weight" in tensors:
            weight = name.removesuffix("SCB") + "weight"
            found[weight] = EightBitTensor(tensors[weight], tensor)
            auxiliary |= {name, f"{weight}_format"}
    return {name: found.get(name, tensor) for name, tensor in tensors.items() if name not in auxiliary}


def _four_bit(
    weight: str, kind: str, state: StoredTensor, tensors: Mapping[str, StoredTensor], parts: Mapping[str, StoredTensor]
) -> FourBitTensor:
    try:
        told = json.loads(bytes(state.read().to(torch.uint8).tolist()).decode("utf-8"))
        needed = {"shape", "blocksize", "dtype"} | (
            {"nested_blocksize", "nested_offset"} if "nested_absmax" in parts else set()
        )
        if not {"absmax", "quant_map"} <= parts.keys() or not needed <= told.keys() or weight not in tensors:
            raise ValueError("parts of it are missing")
    except (ValueError, AttributeError) as error:
        raise CheckpointError(
            f"The 4-bit state of '{weight}' in '{state.path}' is broken ({error}). Save the checkpoint again."
        ) from error
    return FourBitTensor(tensors[weight], parts, told)


def is_quantised(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> bool:
    """True when a checkpoint holds weights as bitsandbytes writes them."""
    return any(STATE in name or name.endswith(".SCB") for name in tensors)
