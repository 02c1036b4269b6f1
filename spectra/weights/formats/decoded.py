"""Tensors whose stored codes stand for other numbers: they are decoded row by row, as they are read."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spectra.weights.formats.stored import StoredTensor


@dataclass(frozen=True, eq=False)
class DecodedTensor:
    """A quantised weight, seen as the weight that it stands for (a `StoredTensor`).

    Attributes:
        codes: The codes, as stored.
    """

    codes: StoredTensor

    @property
    def name(self) -> str:
        """Name in the file."""
        return self.codes.name

    @property
    def path(self) -> Path:
        """The file."""
        return self.codes.path

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the weight."""
        return self.codes.shape

    @property
    def dtype(self) -> torch.dtype:
        """float32, unless the file says what the weight was quantised from."""
        return torch.float32

    @property
    def nbytes(self) -> int:
        """Bytes in the file, scales included."""
        return self.codes.nbytes + sum(part.nbytes for part in self.scales)

    @property
    def scales(self) -> tuple[StoredTensor, ...]:
        """The tensors beside the codes that they are decoded with."""
        return ()

    def read(self) -> Tensor:
        """The whole weight."""
        if len(self.shape) == 3:
            return torch.stack([self.read_rows(0, self.shape[1], expert) for expert in range(self.shape[0])])
        return self.read_rows(0, self.shape[0])

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Some rows, of one expert where the first axis counts experts."""
        raise NotImplementedError

    def read_columns(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Some columns: whole rows are decoded for them."""
        return self.read_rows(0, self.shape[0 if expert is None else 1], expert)[:, start:stop]
