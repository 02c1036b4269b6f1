"""A stored tensor seen in another shape: experts stacked along the rows, heads as an axis of their own."""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spectra.weights.formats.stored import StoredTensor


@dataclass(frozen=True, eq=False)
class Reshaped:
    """A tensor whose file says (experts * n, m) or (n, heads, d), seen as (experts, n, m) or (n, heads * d).

    Attributes:
        tensor: The tensor as stored.
        shape: The shape it is seen in, in the same order of numbers; (experts, rows, columns) or (rows, columns).
    """

    tensor: StoredTensor
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """The number of numbers cannot change."""
        if math.prod(self.shape) != math.prod(self.tensor.shape):
            raise ValueError(f"a tensor of shape {self.tensor.shape} seen as {self.shape}")

    @property
    def name(self) -> str:
        """Name in the file."""
        return self.tensor.name

    @property
    def path(self) -> Path:
        """The file."""
        return self.tensor.path

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of what the reads return."""
        return self.tensor.dtype

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.tensor.nbytes

    def read(self) -> Tensor:
        """The whole tensor."""
        return self.tensor.read().reshape(self.shape)

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Rows along the first axis, of one expert where the first axis counts experts."""
        return self._matrix(expert)[start:stop]

    def read_columns(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Columns of a matrix."""
        return self._matrix(expert)[:, start:stop]

    def _matrix(self, expert: int | None) -> Tensor:
        """The matrix, or that of one expert, read whole: no shorter read serves columns."""
        if expert is None:
            return self.read()
        rows = self.tensor.shape[0] // self.shape[0]
        return self.tensor.read_rows(expert * rows, (expert + 1) * rows).reshape(self.shape[1:])
