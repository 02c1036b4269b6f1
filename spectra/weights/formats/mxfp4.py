"""MXFP4, as gpt-oss is released: 4-bit floats, two to a byte, in blocks of 32 that share a power of two.

The file stores (experts, d_out, blocks, 16) bytes and (experts, d_out, blocks) exponents; transformers holds the
same weight as (experts, d_in, d_out), and so does the tensor here.

Source: OCP Microscaling Formats specification 1.0, sections 5.3.3 (E2M1) and 5.4.1 (E8M0).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spectra.errors import CheckpointError
from spectra.weights.formats.decoded import DecodedTensor
from spectra.weights.formats.stored import StoredTensor

BLOCKS, SCALES = "_blocks", "_scales"
EXPONENT_BIAS = 127
E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6])


@dataclass(frozen=True, eq=False)
class Mxfp4Tensor(DecodedTensor):
    """One projection of all experts.

    Attributes:
        weight: Name of the weight that the blocks stand for.
        exponents: The powers of two, one per block.
    """

    weight: str
    exponents: StoredTensor

    @property
    def name(self) -> str:
        """Name of the weight."""
        return self.weight

    @property
    def shape(self) -> tuple[int, ...]:
        """(experts, d_in, d_out)."""
        experts, d_out, blocks, half = self.codes.shape
        return experts, 2 * blocks * half, d_out

    @property
    def dtype(self) -> torch.dtype:
        """bfloat16, which holds every value exactly."""
        return torch.bfloat16

    @property
    def scales(self) -> tuple[StoredTensor, ...]:
        """The exponents."""
        return (self.exponents,)

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Some rows, of one expert: all of it is decoded for them."""
        if expert is None:
            return torch.stack([self.read_rows(0, self.shape[1], index) for index in range(start, stop)])
        return self.read_columns(0, self.shape[2], expert)[start:stop]

    def read_columns(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Some columns, which are rows of the file."""
        codes = self.codes.read_rows(start, stop, expert)
        exponents = self.exponents.read_rows(start, stop, expert).to(torch.int32) - EXPONENT_BIAS
        values = E2M1[torch.stack([codes & 15, codes >> 4], dim=-1).flatten(-2).long()]
        return torch.ldexp(values, exponents.unsqueeze(-1)).reshape(stop - start, -1).to(self.dtype).mT


def is_mxfp4(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> bool:
    """True when the checkpoint holds blocks."""
    return any(name.endswith(BLOCKS) and tensor.dtype is torch.uint8 for name, tensor in tensors.items())


def without_blocks(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> Mapping[str, StoredTensor]:
    """The tensors with every pair of blocks and exponents seen as the weight that it stands for.

    Raises:
        CheckpointError: If blocks lack their exponents, or the two disagree.
    """
    found: dict[str, StoredTensor] = {}
    for name, tensor in tensors.items():
        weight = name.removesuffix(BLOCKS)
        exponents = tensors.get(f"{weight}{SCALES}")
        if weight == name or tensor.dtype is not torch.uint8:
            if not (name.endswith(SCALES) and name.removesuffix(SCALES) + BLOCKS in tensors):
                found[name] = tensor
            continue
        if exponents is None or len(tensor.shape) != 4 or exponents.shape != tensor.shape[:3]:
            raise CheckpointError(
                f"'{name}' in '{tensor.path}' lacks '{weight}{SCALES}' of shape {tensor.shape[:3]}. "
                "Save the checkpoint again, or give the one that it was quantised from."
            )
        found[weight] = Mxfp4Tensor(tensor, weight, exponents)
    return found
