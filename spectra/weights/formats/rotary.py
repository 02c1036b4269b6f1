"""Two orders of the rows of query and key matrices, and tensors seen in the other one.

transformers rotates the first half of a head against the second; Meta's code, and with it Mistral's, torchtune's and
llama.cpp's, rotates neighbours. The same layer is stored with its rows in two orders.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from spectra.weights.formats.stored import StoredTensor

# What lies in the other order: nothing, the rows of queries, or the rows of keys, whose heads may be fewer.
Interleaved = Literal["", "queries", "keys"]


def interleaved_rows(rows: int, heads: int) -> Tensor:
    """The stored row of each row: per head, the two halves lie interleaved in the file."""
    return torch.arange(rows).reshape(heads, rows // heads // 2, 2).transpose(1, 2).reshape(-1)


@dataclass(frozen=True, eq=False)
class ReorderedTensor:
    """A tensor whose rows are read in another order (a `StoredTensor`).

    Attributes:
        stored: The tensor.
        order: Which stored row is row i.
    """

    stored: StoredTensor
    order: Tensor

    @property
    def name(self) -> str:
        """Name in the file."""
        return self.stored.name

    @property
    def path(self) -> Path:
        """The file."""
        return self.stored.path

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as stored."""
        return self.stored.shape

    @property
    def dtype(self) -> torch.dtype:
        """Dtype as stored."""
        return self.stored.dtype

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return self.stored.nbytes

    def read(self) -> Tensor:
        """The whole tensor."""
        return self.stored.read()[self.order]

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Some rows: the stretch of the file that holds them is read."""
        wanted = self.order[start:stop]
        if len(wanted) == 0:
            return self.stored.read_rows(0, 0, expert)
        first = int(wanted.min())
        return self.stored.read_rows(first, int(wanted.max()) + 1, expert)[wanted - first]

    def read_columns(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Some columns."""
        return self.stored.read_columns(start, stop, expert)[self.order]
