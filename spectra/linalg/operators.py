"""Linear operators: what a Krylov method needs of a matrix, and nothing more.

Each offers  W @ X  and  W^H @ X  for a block of vectors X, its shape, dtype and device, and `dense()` for the
methods that need the whole matrix. An update is never added into a copy of W0 unless `dense()` is called.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.threads import in_threads

# Entries of the rows that a thread multiplies both ways: 1 MB in single precision, which stays in its cache.
CACHED_ENTRIES = 1 << 18
# Below this many entries the whole matrix does.
LEAST_CACHED = 1 << 21


@runtime_checkable
class LinearOperator(Protocol):
    """A real d_out x d_in matrix known by its products."""

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic of the products."""

    @property
    def device(self) -> torch.device:
        """Where the products are computed."""

    def matmat(self, X: Float[Tensor, "d_in n"]) -> Float[Tensor, "d_out n"]:
        """W @ X."""

    def rmatmat(self, Y: Float[Tensor, "d_out n"]) -> Float[Tensor, "d_in n"]:
        """W^H @ Y."""

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """The matrix itself."""

    def row_blocks(self) -> Iterator[Float[Tensor, "rows d_in"]]:
        """Consecutive blocks of rows that together are the matrix."""


@dataclass(frozen=True, eq=False)
class LowRankUpdate:
    """A LoRA update  delta_W = scaling * B @ A,  kept as its factors.

    Source: Hu et al. 2021, arXiv:2106.09685, section 4.1.
    """

    B: Float[Tensor, "d_out rank"]
    A: Float[Tensor, "rank d_in"]
    scaling: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return self.B.shape[0], self.A.shape[1]

    @property
    def rank(self) -> int:
        """Number of columns of B: an upper bound of the rank of delta_W."""
        return self.B.shape[1]

    def to(self, *, dtype: torch.dtype, device: torch.device | str) -> "LowRankUpdate":
        """The same update in another arithmetic or on another device."""
        return LowRankUpdate(self.B.to(device, dtype), self.A.to(device, dtype), self.scaling)

    def plus(self, other: "LowRankUpdate") -> "LowRankUpdate":
        """The sum as one product of the ranks together:  scaling * [B, c B_other] @ [A; A_other],  c the ratio."""
        ratio = other.scaling / self.scaling
        return LowRankUpdate(torch.cat([self.B, ratio * other.B], dim=1), torch.cat([self.A, other.A]), self.scaling)

    def matmat(self, X: Float[Tensor, "d_in n"]) -> Float[Tensor, "d_out n"]:
        """delta_W @ X as two thin products."""
        return self.B @ (self.scaling * (self.A @ X))

    def rmatmat(self, Y: Float[Tensor, "d_out n"]) -> Float[Tensor, "d_in n"]:
        """delta_W^H @ Y as two thin products."""
        return self.A.mH @ (self.scaling * (self.B.mH @ Y))

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """delta_W itself.  Cost O(d_out d_in rank)."""
        return self.scaling * (self.B @ self.A)


@dataclass(frozen=True, eq=False)
class Dense:
    """A matrix held in memory.

    BLAS reads it along its rows in either product, W @ X with X row by row and  (Y^H W)^H: on a CPU, with 12 to 40
    columns, up to twice as fast as with the thin factor the other way about.
    """

    W: Float[Tensor, "d_out d_in"]

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return self.W.shape[0], self.W.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic of the products."""
        return self.W.dtype

    @property
    def device(self) -> torch.device:
        """Where the products are computed."""
        return self.W.device

    def matmat(self, X: Float[Tensor, "d_in n"]) -> Float[Tensor, "d_out n"]:
        """W @ X."""
        return _product(self.W, X) if self._is_by_rows else _adjoint_product(self.W.mH, X)

    def rmatmat(self, Y: Float[Tensor, "d_out n"]) -> Float[Tensor, "d_in n"]:
        """W^H @ Y."""
        return _adjoint_product(self.W, Y) if self._is_by_rows else _product(self.W.mH, Y)

    def gram(self, X: Float[Tensor, "d_in n"]) -> Float[Tensor, "d_in n"]:
        """W^H (W @ X), reading W once: up to 1.8 times as fast as two products."""
        if self.device.type != "cpu" or not self._is_by_rows or self.W.numel() < LEAST_CACHED:
            return self.rmatmat(self.matmat(X))
        parts = in_threads(partial(_gram_of_rows, X.contiguous()), self.W.chunk(torch.get_num_threads()))
        return torch.stack(parts).sum(dim=0).mH

    @property
    def _is_by_rows(self) -> bool:
        return self.W.stride(1) == 1

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """The matrix itself, not a copy."""
        return self.W

    def row_blocks(self) -> Iterator[Float[Tensor, "rows d_in"]]:
        """Blocks of as many rows as there are columns, as views."""
        yield from self.W.split(max(self.shape[1] // 2, 1))


def _product(W: Float[Tensor, "d inner"], X: Float[Tensor, "inner n"]) -> Float[Tensor, "d n"]:
    return W @ X.contiguous()


def _adjoint_product(W: Float[Tensor, "inner d"], Y: Float[Tensor, "inner n"]) -> Float[Tensor, "d n"]:
    return (Y.mH.contiguous() @ W).mH


@torch.no_grad()
def _gram_of_rows(X: Float[Tensor, "d_in n"], W: Float[Tensor, "rows d_in"]) -> Float[Tensor, "n d_in"]:
    """(W^H W X)^H by blocks of rows that stay in the cache between the two products."""
    total = torch.zeros(X.shape[1], X.shape[0], dtype=W.dtype)
    for block in W.split(max(CACHED_ENTRIES // W.shape[1], 1)):
        total.addmm_((block @ X).mH, block)
    return total


class _BesideW0:
    """What an operator that is built on W0 shares with it."""

    W0: LinearOperator

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in)."""
        return self.W0.shape

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic of the products."""
        return self.W0.dtype

    @property
    def device(self) -> torch.device:
        """Where the products are computed."""
        return self.W0.device


@dataclass(frozen=True, eq=False)
class Updated(_BesideW0):
    """W0 + scaling * B @ A without the sum: two thin products beside each product with W0."""

    W0: LinearOperator
    update: LowRankUpdate

    def matmat(self, X: Float[Tensor, "d_in n"]) -> Float[Tensor, "d_out n"]:
        """(W0 + scaling B A) @ X."""
        return self.W0.matmat(X) + self.update.matmat(X)

    def rmatmat(self, Y: Float[Tensor, "d_out n"]) -> Float[Tensor, "d_in n"]:
        """(W0 + scaling B A)^H @ Y."""
        return self.W0.rmatmat(Y) + self.update.rmatmat(Y)

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """The sum, formed: for the exact method only."""
        return self.W0.dense() + self.update.dense()

    def row_blocks(self) -> Iterator[Float[Tensor, "rows d_in"]]:
        """Blocks of rows of the sum."""
        start = 0
        for rows in self.W0.row_blocks():
            B = self.update.B[start : start + rows.shape[0]]
            yield rows + self.update.scaling * (B @ self.update.A)
            start += rows.shape[0]


@dataclass(frozen=True, eq=False)
class RowChunked:
    """A matrix that stays in storage and is read a block of rows at a time.

    `read_rows(start, stop)` returns rows in their storage dtype; each block is converted to `dtype`, used and
    dropped, so a product holds `chunk_rows * d_in` numbers of the matrix at once, whatever d_out is. Each pass over the
    matrix is a read of its file, so that what needs two products takes both from one pass where that is possible.

    Attributes:
        read_rows: Gives rows in storage dtype.
        shape: (d_out, d_in).
        dtype: Arithmetic of the products.
        device: Where they are computed.
        chunk_rows: Rows at a time.
        make_room: Called with bytes that are needed beside the matrix for a while; a reader that holds rows lets go of
            as many.
    """

    read_rows: Callable[[int, int], Tensor]
    shape: tuple[int, int]
    dtype: torch.dtype
    device: torch.device
    chunk_rows: int
    make_room: Callable[[int], None] = lambda _: None

    def _chunks(self) -> list[tuple[int, int]]:
        d_out = self.shape[0]
        return [(start, min(start + self.chunk_rows, d_out)) for start in range(0, d_out, self.chunk_rows)]

    def read(self, start: int, stop: int) -> Float[Tensor, "rows d_in"]:
        """Rows [start, stop)."""
        return self.read_rows(start, stop).to(device=self.device, dtype=self.dtype)

    def matmat(self, X: Float[Tensor, "d_in n"]) -> Float[Tensor, "d_out n"]:
        """W @ X, block of rows by block of rows."""
        return torch.cat([Dense(self.read(start, stop)).matmat(X) for start, stop in self._chunks()])

    def rmatmat(self, Y: Float[Tensor, "d_out n"]) -> Float[Tensor, "d_in n"]:
        """W^H @ Y, summed over blocks of rows."""
        total = torch.zeros(self.shape[1], Y.shape[1], dtype=self.dtype, device=self.device)
        for start, stop in self._chunks():
            total += Dense(self.read(start, stop)).rmatmat(Y[start:stop])
        return total

    def both_ways(
        self, X: Float[Tensor, "d_in n"], beside: Float[Tensor, "d_out n"] | None = None
    ) -> tuple[Float[Tensor, "d_out n"], Float[Tensor, "d_in n"]]:
        """Y = W @ X + beside, and W^H @ Y, in one pass."""
        half = torch.empty(self.shape[0], X.shape[1], dtype=self.dtype, device=self.device)
        total = torch.zeros(self.shape[1], X.shape[1], dtype=self.dtype, device=self.device)
        for start, stop in self._chunks():
            rows = Dense(self.read(start, stop))
            part = rows.matmat(X)
            half[start:stop] = part if beside is None else part + beside[start:stop]
            total += rows.rmatmat(half[start:stop])
        return half, total

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """The whole matrix: needs d_out * d_in numbers of memory."""
        return torch.cat(list(self.row_blocks()))

    def row_blocks(self) -> Iterator[Float[Tensor, "rows d_in"]]:
        """The blocks as they are read."""
        for start, stop in self._chunks():
            yield self.read(start, stop)


@dataclass(frozen=True, eq=False)
class Difference(_BesideW0):
    """W - W0 without the difference: the update of a matrix that was tuned as a whole."""

    W: LinearOperator
    W0: LinearOperator

    def matmat(self, X: Float[Tensor, "d_in n"]) -> Float[Tensor, "d_out n"]:
        """(W - W0) @ X. A small update loses digits to cancellation here; `dense` loses none."""
        return self.W.matmat(X) - self.W0.matmat(X)

    def rmatmat(self, Y: Float[Tensor, "d_out n"]) -> Float[Tensor, "d_in n"]:
        """(W - W0)^H @ Y, with the same cancellation."""
        return self.W.rmatmat(Y) - self.W0.rmatmat(Y)

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """The difference, formed entry by entry."""
        return self.W.dense() - self.W0.dense()

    def row_blocks(self) -> Iterator[Float[Tensor, "rows d_in"]]:
        """Blocks of rows of the difference, as large as those of W."""
        start = 0
        for rows in self.W.row_blocks():
            stop = start + rows.shape[0]
            base = self.W0.read(start, stop) if isinstance(self.W0, RowChunked) else self.W0.dense()[start:stop]
            yield rows - base
            start = stop


@dataclass(frozen=True, eq=False)
class Adjoint:
    """W^H: turns a scan of right singular vectors into one of left singular vectors."""

    W: LinearOperator

    @property
    def shape(self) -> tuple[int, int]:
        """(d_in, d_out) of the operator that was turned."""
        return self.W.shape[1], self.W.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic of the products."""
        return self.W.dtype

    @property
    def device(self) -> torch.device:
        """Where the products are computed."""
        return self.W.device

    def matmat(self, X: Float[Tensor, "d_in n"]) -> Float[Tensor, "d_out n"]:
        """W^H @ X."""
        return self.W.rmatmat(X)

    def rmatmat(self, Y: Float[Tensor, "d_out n"]) -> Float[Tensor, "d_in n"]:
        """W @ Y."""
        return self.W.matmat(Y)

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """The transposed matrix, a view where the inner one is held in memory."""
        return self.W.dense().mH

    def row_blocks(self) -> Iterator[Float[Tensor, "rows d_in"]]:
        """Blocks of columns of the inner matrix: needs the whole of it in memory."""
        yield from Dense(self.dense()).row_blocks()
