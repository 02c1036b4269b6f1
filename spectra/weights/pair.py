"""A tuned checkpoint beside its base: matched matrices, and what was left out."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.operators import LowRankUpdate
from spectra.records.coverage import Coverage
from spectra.records.verdicts import Skipped
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.names import MatrixName
from spectra.weights.methods.changes import Change, Replaced
from spectra.weights.methods.scaling import LoraSettings

Kind = Literal["full", "adapter"]


@dataclass(frozen=True, eq=False)
class MatrixPair:
    """One pre-trained matrix and its change; nothing is read before it is asked for.

    Attributes:
        name: Where the matrix stands.
        W0: The pre-trained matrix in storage.
        change: What tuning did to it.
    """

    name: MatrixName
    W0: StoredMatrix
    change: Change

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return self.W0.shape

    @property
    def home(self) -> StoredMatrix:
        """Where the tuned matrix is stored, if it was saved whole; else W0, which the change tunes."""
        return self.change.W_tuned if isinstance(self.change, Replaced) else self.W0

    @property
    def lora(self) -> LoraSettings | None:
        """Rank, alpha and scaling, where the method has them."""
        return self.change.lora

    def update(self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> LowRankUpdate | None:
        """delta_W as scaling * B @ A, exactly; None when the change is dense.

        Raises:
            CheckpointError: If a factor holds NaN or infinity, or its file changed.
        """
        return self.change.low_rank(self.W0, dtype, device)

    def W_tuned(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "d_out d_in"]:
        """The tuned matrix, dense and fresh.

        Raises:
            CheckpointError: If a tensor holds NaN or infinity, or its file changed.
        """
        return self.change.tuned(self.W0, dtype, device)

    def delta_W(
        self, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "d_out d_in"]:
        """W_tuned - W0, dense: the product of the factors where there are factors, else the difference.

        Raises:
            CheckpointError: If a tensor holds NaN or infinity, or its file changed.
        """
        update = self.update(dtype, device)
        if update is not None:
            return update.dense()
        delta_W = self.W_tuned(dtype, device)
        for start, rows in self.W0.chunks(device):
            delta_W[start : start + len(rows)] -= rows.to(dtype)
        return delta_W


@dataclass(frozen=True, eq=False)
class CheckpointPair:
    """A tuned checkpoint beside its base.

    Attributes:
        base: The base as the user or the adapter named it.
        checkpoint: The tuned checkpoint as the user named it.
        kind: "full" or "adapter".
        method: "full", "lora", "dora", ... as `spectra inspect` prints it.
        matrices: The matched matrices, in checkpoint order.
        skipped: What is not compared, and why.
        warnings: Sentences that a reader of any result has to know.
        trained_parameters: Numbers that were trained, inside and outside the compared matrices.
        nbytes: Bytes of the checkpoint's tensors.
        coverage: What became of the matrices of the blocks.
    """

    base: str | None
    checkpoint: str
    kind: Kind
    method: str
    matrices: tuple[MatrixPair, ...]
    skipped: tuple[Skipped, ...] = ()
    warnings: tuple[str, ...] = ()
    trained_parameters: int = 0
    nbytes: int = 0
    coverage: Coverage | None = None
