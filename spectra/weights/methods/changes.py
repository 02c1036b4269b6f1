"""What tuning did to one matrix: the kinds of change, each able to give the tuned matrix."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.operators import LowRankUpdate
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.fused import Ranges
from spectra.weights.methods.scaling import LoraSettings

Device = torch.device | str


@runtime_checkable
class Change(Protocol):
    """How W_tuned follows from W0."""

    @property
    def lora(self) -> LoraSettings | None:
        """Rank, alpha and scaling, where the method has them."""

    @property
    def parameters(self) -> int:
        """Trained numbers."""

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> LowRankUpdate | None:
        """The update as factors, or None when it is dense."""

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> Float[Tensor, "d_out d_in"]:
        """W_tuned, fresh."""


@dataclass(frozen=True, eq=False)
class LoraChange:
    """W_tuned = W0 + scaling * B @ A, with the factors left in the adapter's file.

    Attributes:
        A: (rank, d_in) in storage; (experts * rank, d_in) for one expert of a 3-D parameter.
        B: (d_out, rank) in storage; (d_out, rank * experts), the expert running fastest.
        settings: Rank, alpha, scaling.
        expert: Which expert of how many.
        swapped: True where peft trained the transposed product (3-D parameters before peft 0.18).
    """

    A: StoredMatrix
    B: StoredMatrix
    settings: LoraSettings
    expert: tuple[int, int] | None = None
    swapped: bool = False

    @property
    def lora(self) -> LoraSettings:
        """Rank, alpha and scaling."""
        return self.settings

    @property
    def parameters(self) -> int:
        """rank * (d_out + d_in)."""
        return self.settings.rank * (self.B.shape[0] + self.A.shape[1])

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> LowRankUpdate:
        """B, A and the scaling."""
        return self.factors(dtype, device)

    def factors(self, dtype: torch.dtype, device: Device) -> LowRankUpdate:
        """B, A and the scaling, for which W0 is not needed.

        Raises:
            CheckpointError: If a factor holds NaN or infinity, or its file changed.
        """
        A, B = self.A.load(dtype, device), self.B.load(dtype, device)
        if self.expert is not None:
            index, count = self.expert
            rank = self.settings.rank
            A, B = A[index * rank : (index + 1) * rank], B[:, index::count]
        if self.swapped:
            A, B = B.mH, A.mH
        return LowRankUpdate(B.contiguous(), A.contiguous(), self.settings.scaling)

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> Float[Tensor, "d_out d_in"]:
        """W0 plus the product, added in place: delta_W is never a second matrix of that size."""
        return added(W0.load(dtype, device), self.low_rank(W0, dtype, device))


@dataclass(frozen=True, eq=False)
class DoraChange:
    """DoRA: the rows of W0 + delta, each scaled to its trained magnitude.

    W_tuned = magnitude / ||W0 + delta|| * (W0 + delta),  the norm of each row; of each column for an embedding.

    Attributes:
        inner: The low-rank change of the direction.
        magnitude: (n, 1) in storage.
        by_column: True for an embedding, whose magnitudes belong to the columns.

    Source: Liu et al. 2024, arXiv:2402.09353, equation 5.
    """

    inner: Change
    magnitude: StoredMatrix
    by_column: bool = False

    @property
    def lora(self) -> LoraSettings | None:
        """Rank, alpha and scaling."""
        return self.inner.lora

    @property
    def parameters(self) -> int:
        """Those of the factors, and the magnitudes."""
        return self.inner.parameters + self.magnitude.shape[0] * self.magnitude.shape[1]

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> None:
        """Rescaled rows have no low rank."""
        return

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> Float[Tensor, "d_out d_in"]:
        """The rescaled sum."""
        direction = self.inner.tuned(W0, dtype, device)
        axis = 0 if self.by_column else 1
        norm = torch.linalg.vector_norm(direction, dim=axis, keepdim=True)
        magnitude = self.magnitude.load(dtype, device).reshape(norm.shape)
        return direction.mul_(magnitude / norm)


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

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> None:
        """A dense change has no factors."""
        return

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> Float[Tensor, "d_out d_in"]:
        """The tuned matrix as stored."""
        return self.W_tuned.load(dtype, device)


@dataclass(frozen=True, eq=False)
class RowsReplaced:
    """Some rows of an embedding were trained and take the place of those of W0; all others stay.

    Attributes:
        indices: Which rows.
        rows: Their trained values, (n, d).
    """

    indices: tuple[int, ...]
    rows: StoredMatrix

    @property
    def lora(self) -> None:
        """Trained rows have no rank or alpha."""
        return

    @property
    def parameters(self) -> int:
        """n * d."""
        return self.rows.shape[0] * self.rows.shape[1]

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> None:
        """The rows are given, not factors."""
        return

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> Float[Tensor, "d_out d_in"]:
        """W0 with the trained rows in their places."""
        W = W0.load(dtype, device)
        W[list(self.indices)] = self.rows.load(dtype, device)
        return W


@dataclass(frozen=True, eq=False)
class MergedByPeft:
    """A dense change that peft's own merge computes from W0.

    Attributes:
        merged: W0 in float32 to W_tuned in float32.
        parameters: Trained numbers that belong to this matrix.
    """

    merged: Callable[[Tensor], Tensor]
    parameters: int
    lora: LoraSettings | None = None

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> None:
        """peft merges into the dense matrix."""
        return

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> Float[Tensor, "d_out d_in"]:
        """What peft makes of W0; its own arithmetic is float32."""
        return self.merged(W0.load(torch.float32, device)).to(dtype)


@dataclass(frozen=True, eq=False)
class RowsOf:
    """Some rows of a change: the queries of a fused qkv matrix.

    Attributes:
        whole: The change of the fused matrix.
        W0: The fused pre-trained matrix.
        ranges: Which rows.
    """

    whole: Change
    W0: StoredMatrix
    ranges: Ranges

    @property
    def lora(self) -> LoraSettings | None:
        """That of the fused matrix."""
        return self.whole.lora

    @property
    def parameters(self) -> int:
        """The share of the fused matrix's trained numbers, by rows; factors that all parts share count in each."""
        rows = sum(stop - start for start, stop in self.ranges)
        return self.whole.parameters * rows // self.W0.shape[0]

    def _rows(self, dense: Tensor) -> Tensor:
        return torch.cat([dense[start:stop] for start, stop in self.ranges])

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> LowRankUpdate | None:
        """The same A, some rows of B."""
        update = self.whole.low_rank(self.W0, dtype, device)
        return None if update is None else replace(update, B=self._rows(update.B))

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> Float[Tensor, "d_out d_in"]:
        """Some rows of the tuned fused matrix."""
        if isinstance(self.whole, Replaced):
            return self.whole.W_tuned.take(self.ranges).load(dtype, device)
        return self._rows(self.whole.tuned(self.W0, dtype, device))


def added(W: Float[Tensor, "d_out d_in"], update: LowRankUpdate) -> Float[Tensor, "d_out d_in"]:
    """W + scaling * B @ A, in place."""
    return W.addmm_(update.B, update.A, alpha=update.scaling)
