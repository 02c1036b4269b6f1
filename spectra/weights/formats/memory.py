"""Tensors in memory, of a model or of a file that is read whole, behind the interface of a file's."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

MEMORY = Path("the model in memory")


@dataclass(frozen=True, eq=False)
class TensorInMemory:
    """A tensor of a model in memory; every read sees what it holds then (a `StoredTensor`).

    Attributes:
        name: Name of the parameter.
        shape: Shape of the weight.
        dtype: Dtype of what the reads return.
        fetch: The tensor as it stands, on any device; a quantised weight is dequantised here.
        path: The file that it came from; stands for the model where there is none.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    fetch: Callable[[], Tensor]
    path: Path = MEMORY

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> "TensorInMemory":
        """A tensor that is changed in place, as optimisers do; it is not copied."""
        held = tensor.detach()
        return cls(name, tuple(held.shape), held.dtype, lambda: held)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> Tensor:
        """The whole tensor, on the CPU."""
        return self.fetch().cpu()

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Rows along the first axis, of one expert where the first axis counts experts."""
        return self._of(expert)[start:stop].cpu()

    def read_columns(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Columns of a matrix."""
        return self._of(expert)[:, start:stop].cpu()

    def _of(self, expert: int | None) -> Tensor:
        whole = self.fetch()
        return whole if expert is None else whole[expert]
