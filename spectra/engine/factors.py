"""What is known of one base matrix: its operator, and the factors of W0 that earlier scans have paid for."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import SpectrumError
from spectra.linalg.gram_spectrum import GramSpectrum, gram_spectrum
from spectra.linalg.operators import LinearOperator, RowChunked
from spectra.linalg.svd import SVD, thin_svd

# Entry by which X^H X of known vectors may differ from the identity: far above rounding, far below any mistake.
ORTHONORMAL = 1e-4


@dataclass(frozen=True, eq=False)
class LeadingFactors:
    """Leading eigenpairs of the smaller Gram operator of W0, with what is proven about them (on the CPU).

    Attributes:
        vectors: Orthonormal columns in the smaller space: left singular vectors of a wide W0, right ones of a tall.
        values: Squared singular values, decreasing, float64.
        sin_angles: Bound on the angle between each column and the true vector, float64.
        residual: ||H X - X Theta||_F.
        floor: An eigenvalue that the Gram operator is proven to exceed everywhere; 0 when nothing is proven.

    Raises:
        ValueError: If the columns are not orthonormal, or the fields do not fit each other.
    """

    vectors: Float[Tensor, "d l"]
    values: Float[Tensor, " l"]
    sin_angles: Float[Tensor, " l"]
    residual: float
    floor: float

    def __post_init__(self) -> None:
        """Refuse what is no set of different eigenvectors: the same vector twice would be two of them."""
        X, count = self.vectors, self.values.shape[0]
        if X.shape[1] != count or self.sin_angles.shape[0] != count or count > X.shape[0]:
            raise ValueError("leading factors need one value and one angle per vector")
        overlap = X.mH @ X - torch.eye(count, dtype=X.dtype, device=X.device)
        if count and not float(overlap.abs().max()) <= ORTHONORMAL:
            raise ValueError("the vectors of leading factors are not orthonormal")


@runtime_checkable
class FactorStore(Protocol):
    """Where factors are kept between scans; see `engine.cache`."""

    def load_leading(self) -> LeadingFactors | None:
        """The leading factors of this W0, if they are stored and sound."""

    def save_leading(self, factors: LeadingFactors) -> None:
        """Keep leading factors."""

    def load_full(self) -> SVD | None:
        """The thin SVD of this W0, if it is stored and sound."""

    def save_full(self, svd: SVD) -> None:
        """Keep a thin SVD."""

    def has_full(self) -> bool:
        """True when `load_full` would probably succeed."""


@dataclass(eq=False)
class BaseFactors:
    """One W0 and its factors, computed at most once per scan and kept in the store when there is one."""

    W0: LinearOperator
    store: FactorStore | None = None
    _leading: LeadingFactors | None = field(default=None, init=False)
    _full: SVD | None = field(default=None, init=False)
    _spectrum: GramSpectrum | None = field(default=None, init=False)
    _asked: bool = field(default=False, init=False)

    @property
    def leading(self) -> LeadingFactors | None:
        """Leading factors, if known."""
        if self._leading is None and self.store is not None and not self._asked:
            self._asked = True
            self._leading = self.store.load_leading()
        return self._leading

    def learn_leading(self, factors: LeadingFactors) -> None:
        """Keep leading factors in the place of those that are known."""
        self._leading = factors
        if self.store is not None:
            self.store.save_leading(factors)

    @cached_property
    def is_zero(self) -> bool:
        """True when no entry of W0 differs from zero: it has no singular vectors of its own."""
        if isinstance(self.W0, RowChunked) and bool(self.W0.read(0, 1).any()):
            return False  # without a pass over it
        return not any(bool(rows[:1].any()) or bool(rows.any()) for rows in self.W0.row_blocks())

    def spectrum(self) -> GramSpectrum:
        """All eigenpairs of the smaller Gram matrix: computed at most once, for small matrices only."""
        if self._spectrum is None:
            self._spectrum = gram_spectrum(self.W0)
        return self._spectrum

    @property
    def is_stored(self) -> bool:
        """True when what is learned here serves later scans."""
        return self.store is not None

    def has_full(self) -> bool:
        """True when the thin SVD is at hand without computing it."""
        return self._full is not None or (self.store is not None and self.store.has_full())

    def full(self) -> SVD:
        """The thin SVD of W0: from memory, from the store, or computed.

        Raises:
            SpectrumError: If W0 is read block by block because it does not fit the memory budget.
        """
        if self._full is None and self.store is not None:
            self._full = self.store.load_full()
        if self._full is None:
            if isinstance(self.W0, RowChunked):
                raise SpectrumError(
                    f"A {self.W0.shape[0]} x {self.W0.shape[1]} matrix needs a full factorisation, which does not fit "
                    "the memory budget. Raise --memory, or leave the matrix out with --exclude."
                )
            self._full = thin_svd(self.W0.dense())
            if self.store is not None:
                self.store.save_full(self._full)
        return self._full


@dataclass(eq=False)
class TransposedFactors(BaseFactors):
    """The same knowledge about W0^H: for the right singular vectors.

    The smaller Gram operator is the same one, unless W0 is square: then W0 W0^H and W0^H W0 are as small as each
    other, each side takes its own, and what is known of one says nothing about the vectors of the other.
    """

    inner: BaseFactors | None = None

    @property
    def leading(self) -> LeadingFactors | None:
        """Leading factors of the shared Gram operator, or this side's own."""
        return self._leading if self._is_square else _inner(self).leading

    def learn_leading(self, factors: LeadingFactors) -> None:
        """Hand on to the matrix itself, or keep for this call."""
        if self._is_square:
            super().learn_leading(factors)
        else:
            _inner(self).learn_leading(factors)

    def spectrum(self) -> GramSpectrum:
        """The eigenpairs of the shared Gram matrix, or this side's own."""
        return super().spectrum() if self._is_square else _inner(self).spectrum()

    @property
    def is_stored(self) -> bool:
        """True when this side shares its Gram operator with a matrix that is stored."""
        return not self._is_square and _inner(self).is_stored

    @property
    def _is_square(self) -> bool:
        return self.W0.shape[0] == self.W0.shape[1]

    def has_full(self) -> bool:
        """True when the thin SVD is at hand."""
        return _inner(self).has_full()

    def full(self) -> SVD:
        """The thin SVD of W0^H."""
        svd = _inner(self).full()
        return SVD(svd.Vh.mH, svd.S, svd.U.mH)


def _inner(factors: TransposedFactors) -> BaseFactors:
    if factors.inner is None:
        raise ValueError("TransposedFactors needs the factors it transposes")
    return factors.inner
