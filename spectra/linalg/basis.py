"""A tuned matrix in the singular basis of its base, where it is diagonal plus low rank.

With the thin SVD  W0 = U0 diag(S0) Vh0,  n = min(d_out, d_in),

    W0 + scaling B A  =  [U0, Q_B] ( diag(S0) (+) 0  +  scaling [U0^H B; R_B] [A V0, R_A^H] ) [Vh0; Q_A^H],

where Q_B R_B is the QR factorisation of the part of B outside the span of U0 (tall W0 only) and Q_A R_A that of A^H
outside the span of V0 (wide W0 only). A Krylov step costs O(n rank) instead of O(d_out d_in), and the coordinates
of the left singular vectors *are* their cosines to every u_i: nothing is left to be certified.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.completeness import Count
from spectra.linalg.krylov import RitzPairs
from spectra.linalg.operators import Dense, LowRankUpdate
from spectra.linalg.placement import numbers
from spectra.linalg.svd import SVD

# Eigenvalues nearer than this to each other, of the largest, are not told apart by a count in working precision.
EQUAL = 4 * torch.finfo(torch.float32).eps


@dataclass(frozen=True, eq=False)
class Diagonal:
    """A d_out x d_in matrix with S on its main diagonal and zeros elsewhere."""

    S: Float[Tensor, " n"]
    shape: tuple[int, int]

    @property
    def dtype(self) -> torch.dtype:
        """Arithmetic of the products."""
        return self.S.dtype

    @property
    def device(self) -> torch.device:
        """Where the products are computed."""
        return self.S.device

    def matmat(self, X: Float[Tensor, "d_in c"]) -> Float[Tensor, "d_out c"]:
        """W @ X."""
        return self._scale(X, self.shape[0])

    def rmatmat(self, Y: Float[Tensor, "d_out c"]) -> Float[Tensor, "d_in c"]:
        """W^H @ Y."""
        return self._scale(Y, self.shape[1])

    def _scale(self, X: Tensor, rows: int) -> Tensor:
        n = self.S.shape[0]
        return torch.nn.functional.pad(self.S[:, None] * X[:n], (0, 0, 0, rows - n))

    def dense(self) -> Float[Tensor, "d_out d_in"]:
        """The matrix itself."""
        n = self.S.shape[0]
        W = self.S.new_zeros(self.shape)
        W[:n, :n] = torch.diag(self.S)
        return W

    def row_blocks(self) -> Iterator[Float[Tensor, "rows d_in"]]:
        """The matrix itself, in one block."""
        yield self.dense()


def in_base_basis(base: SVD, update: LowRankUpdate) -> tuple[Diagonal, LowRankUpdate]:
    """The diagonal and the update of W0 + scaling B A in the singular basis of W0 (formula above).

    Args:
        base: The thin SVD of W0, all n triplets.
        update: The LoRA update.

    Returns:
        (diag(S0) padded with zeros, the update in coordinates): the first n left coordinates are those along U0.

    Cost: O((d_out + d_in) n rank): one pass over U0 and one over Vh0.
    """
    n = base.S.shape[0]
    B_along = Dense(base.U.mH).matmat(update.B)
    A_along = Dense(base.Vh).matmat(update.A.mH).mH
    d_out, d_in = update.shape
    if d_out > n:
        outside = torch.linalg.qr(update.B - Dense(base.U).matmat(B_along)).R
        B_along = torch.cat([B_along, outside])
    if d_in > n:
        outside = torch.linalg.qr(update.A.mH - Dense(base.Vh.mH).matmat(A_along.mH)).R
        A_along = torch.cat([A_along, outside.mH], dim=1)
    return Diagonal(base.S, (B_along.shape[0], A_along.shape[1])), LowRankUpdate(B_along, A_along, update.scaling)


def out_of_base_basis(base: SVD, update: LowRankUpdate, coordinates: Float[Tensor, "c k"]) -> Float[Tensor, "d_out k"]:
    """[U0, Q_B] @ coordinates: left vectors that were found in the coordinates of `in_base_basis`.

    Args:
        base: The thin SVD of W0.
        update: The update that the coordinates were made for; its Q_B follows from B again.
        coordinates: Left vectors in the extended basis.

    Cost: O(d_out n k).
    """
    n = base.S.shape[0]
    vectors = Dense(base.U).matmat(coordinates[:n])
    if coordinates.shape[0] > n:
        along = Dense(base.U.mH).matmat(update.B)
        outside = torch.linalg.qr(update.B - Dense(base.U).matmat(along)).Q
        vectors = vectors + outside @ coordinates[n:]
    return vectors


def singular_values_above(S: Float[Tensor, " n"], update: LowRankUpdate, limit: float) -> int:
    """How many singular values of  diag(S) (+) 0 + scaling B A  exceed a limit, by the inertia of a small matrix.

    The singular values are the positive eigenvalues of  M = D + X K X^H,  D = [[0, diag S], [diag S, 0]] with further
    zeros, X = B (+) scaling A^H, K = [[0, 1], [1, 0]]. Both Schur complements of [[D - limit, X], [X^H, -K]] give

        #{sigma > limit}  =  #{S_i > limit}  +  n_plus(-K - X^H (D - limit)^{-1} X)  -  rank.

    Args:
        S: Singular values of W0.
        update: The update in the basis of W0 (`in_base_basis`).
        limit: A positive number that is none of S.

    Source: Haynsworth 1968, "Determination of the inertia of a partitioned Hermitian matrix".
        Difference: none.
    Cost: O(n rank^2), in float64.
    """
    n, rank = S.shape[0], update.rank
    S, B, A = numbers(S), numbers(update.B), update.scaling * numbers(update.A).mH
    gap = limit**2 - S**2
    along, across = -limit / gap, -S / gap
    left = B[:n].mH @ (along[:, None] * B[:n]) - B[n:].mH @ B[n:] / limit
    right = A[:n].mH @ (along[:, None] * A[:n]) - A[n:].mH @ A[n:] / limit
    mixed = B[:n].mH @ (across[:, None] * A[:n]) + torch.eye(rank, dtype=S.dtype)
    core = torch.cat([torch.cat([left, mixed], dim=1), torch.cat([mixed.mH, right], dim=1)])
    return int((limit < S).sum()) + int((torch.linalg.eigvalsh(-core) > 0).sum()) - rank


def counted_in_basis(S: Float[Tensor, " n"], update: LowRankUpdate, pairs: RitzPairs, k: int) -> Count | None:
    """The count of the eigenvalues of the Gram operator above the middle between Ritz values k and k + 1.

    Nothing is said where the two are equal, or zero.
    """
    values = torch.cat([pairs.values, pairs.values.new_zeros(1)])
    if k < 1 or pairs.values.shape[0] < k or float(values[k - 1]) <= 0:
        return None
    limit = float(values[k - 1] + values[k]) / 2
    if float(values[k - 1]) - limit <= EQUAL * float(values[0]) or bool((numbers(S) ** 2 == limit).any()):
        return None
    return Count(limit, singular_values_above(S, update, limit**0.5))
