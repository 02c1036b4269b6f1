"""delta_W of one matrix, as factors or dense, and what an edit leaves of its norm."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import SpectrumError
from spectra.linalg.operators import LowRankUpdate
from spectra.weights import MatrixPair


@dataclass(frozen=True, eq=False)
class DenseDelta:
    """scaling * (W_tuned - W0) of a matrix without factors; read from its files when it is needed and then dropped.

    Attributes:
        matrix: The matrix.
        device: Where the difference is formed.
        scaling: Factor on it.
    """

    matrix: MatrixPair
    device: str = "cpu"
    scaling: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return self.matrix.shape

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """The scaled difference, fresh."""
        return self.matrix.delta_W(device=self.device).mul_(self.scaling)


Delta = LowRankUpdate | DenseDelta


def delta_of(matrix: MatrixPair, device: str) -> Delta:
    """delta_W of a matrix: its factors where there are any."""
    return matrix.update(device=device) or DenseDelta(matrix, device)


def times(delta: Delta, factor: float) -> Delta:
    """factor * delta."""
    return replace(delta, scaling=factor * delta.scaling)


def squared_norm(delta: Delta) -> float:
    """||delta||_F^2 in float64; from the Gram matrices of the factors where there are factors."""
    if isinstance(delta, LowRankUpdate):
        return inner_product(delta, delta)
    return float(delta.dense().double().square().sum())


def inner_product(delta: Delta, edit: LowRankUpdate) -> float:
    """<delta, edit> = sum over entries of delta * edit, in float64 and without forming a product of factors.

    <s B A, t D C> = s t sum of (B^H D) * (A C^H);  for a dense delta  t sum of (delta C^H) * D.
    """
    D, C = edit.B.double(), edit.A.double()
    if isinstance(delta, LowRankUpdate):
        B, A = delta.B.double(), delta.A.double()
        return delta.scaling * edit.scaling * float(((B.mH @ D) * (A @ C.mH)).sum())
    return edit.scaling * float(((delta.dense().double() @ C.mH) * D).sum())


@dataclass(frozen=True)
class EditNorms:
    """What is left of one update's norm when t times an edit is added to it.

    ||delta_W + t E||_F^2 = ||delta_W||^2 + 2 t <delta_W, E> + t^2 ||E||^2

    Attributes:
        update: ||delta_W||_F^2.
        inner: <delta_W, E>.
        edit: ||E||_F^2.
    """

    update: float
    inner: float
    edit: float

    @classmethod
    def of(cls, delta: Delta, edit: LowRankUpdate) -> "EditNorms":
        """The three numbers of an update and an edit; a dense update is read twice."""
        return cls(squared_norm(delta), inner_product(delta, edit), inner_product(edit, edit))

    def left(self, t: float) -> float:
        """||delta_W + t E||_F^2; rounding below zero is cut off."""
        return max(0.0, self.update + 2 * t * self.inner + t * t * self.edit)

    def shrink_factor(self, t: float) -> float:
        """c with  ||c delta_W||_F = ||delta_W + t E||_F.

        Raises:
            SpectrumError: If delta_W is zero.
        """
        if self.update == 0:
            raise SpectrumError("An update of norm 0 cannot be scaled to another norm. Leave this matrix out.")
        return math.sqrt(self.left(t) / self.update)


def on(edit: Delta, *, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "d_out d_in"]:
    """The dense edit in the arithmetic and on the device of a model's weight."""
    if isinstance(edit, LowRankUpdate):
        return edit.to(dtype=dtype, device=device).dense()
    return edit.dense().to(device, dtype)
