"""What tuning did to one matrix: the kinds of change, each able to give the tuned matrix."""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.operators import LowRankUpdate
from spectra.weights.scaling import LoraSettings
from spectra.weights.stored import StoredMatrix

Ranges = tuple[tuple[int, int], ...]


class Change(Protocol):
    """How W_tuned follows from W0."""

    @property
    def lora(self) -> LoraSettings | None:
        """Rank, alpha and scaling, where the method has them."""

    @property
    def parameters(self) -> int:
        """Trained numbers."""

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: torch.device | str) -> LowRankUpdate | None:
        """The update as factors, or None when it is dense."""

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: torch.device | str) -> Float[Tensor, "d_out d_in"]:
        """W_tuned, fresh."""

    def take(self, ranges: Ranges) -> "Change":
        """The same change of some rows only."""


@dataclass(frozen=True, eq=False)
class LoraChange:
    """W_tuned = W0 + scaling * B @ A, with the factors left in the adapter's file."""

    A: StoredMatrix
    B: StoredMatrix
    settings: LoraSettings

    @property
    def lora(self) -> LoraSettings:
        """Rank, alpha and scaling."""
        return self.settings

    @property
    def parameters(self) -> int:
        """rank * (d_out + d_in)."""
        return self.settings.rank * (self.B.shape[0] + self.A.shape[1])

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: torch.device | str) -> LowRankUpdate:
        """B, A and the scaling."""
        return LowRankUpdate(self.B.load(dtype, device), self.A.load(dtype, device), self.settings.scaling)

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: torch.device | str) -> Float[Tensor, "d_out d_in"]:
        """W0 plus the product."""
        return W0.load(dtype, device) + self.low_rank(W0, dtype, device).dense()

    def take(self, ranges: Ranges) -> "LoraChange":
        """Some rows of B."""
        return LoraChange(self.A, self.B.take(ranges), self.settings)


@dataclass(frozen=True, eq=False)
class Replaced:
    """The tuned matrix stands in a file: full fine-tuning, or a module that an adapter saved whole."""

    W_tuned: StoredMatrix

    @property
    def lora(self) -> None:
        """Full fine-tuning has none."""
        return

    @property
    def parameters(self) -> int:
        """d_out * d_in."""
        return self.W_tuned.shape[0] * self.W_tuned.shape[1]

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: torch.device | str) -> None:
        """A dense change has no factors."""
        return

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: torch.device | str) -> Float[Tensor, "d_out d_in"]:
        """The tuned matrix as stored."""
        return self.W_tuned.load(dtype, device)

    def take(self, ranges: Ranges) -> "Replaced":
        """Some rows of the tuned matrix."""
        return Replaced(self.W_tuned.take(ranges))
