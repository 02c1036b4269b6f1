"""Block Lanczos on a Gram operator: the one iteration that both the leading triplets and the certificate use.

For a d_out x d_in matrix W the iteration runs on the *smaller* Gram operator, H = W W^H (left space, d_out <= d_in)
or H = W^H W (right space). From a start block X it builds an orthonormal basis Q of the block Krylov space
span(X, HX, ..., H^m X) with

    H Q = Q T + Q_next R E^T,        T = Q^H H Q,  E the columns of the last block,

so the residual of every Ritz pair is known from the small matrices alone.

The iteration does not multiply by itself: it shows the block it waits for (`pending`) and is fed the product
(`advance`). So several iterations on one base share every pass over W0 (`gram_together`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.operators import LinearOperator, LowRankUpdate

# A direction this small against the product it came from has lost two digits of orthogonality.
AMPLIFIED = 0.03


@dataclass(frozen=True, eq=False)
class RitzPairs:
    """Rayleigh-Ritz data of a Krylov space, in the arithmetic of float64 (the projected problem is small).

    Attributes:
        values: Ritz values of H, decreasing.
        vectors: Orthonormal coordinates of the Ritz vectors in the basis Q, as columns.
        coupling: R E^T @ vectors: column l holds the residual of Ritz pair l in the next block's basis.
    """

    values: Float[Tensor, " n"]
    vectors: Float[Tensor, "n n"]
    coupling: Float[Tensor, "block n"]

    @property
    def residuals(self) -> Float[Tensor, " n"]:
        """||H q - theta q|| of every Ritz pair."""
        return torch.linalg.vector_norm(self.coupling, dim=0)


class BlockLanczos:
    """Block Lanczos with full re-orthogonalisation, fed from outside.

    Source: Golub & Underwood 1977, "The block Lanczos method for computing eigenvalues"; re-orthogonalisation as in
        Parlett, The Symmetric Eigenvalue Problem, ch. 13.
        Difference: every new block is orthogonalised twice against all previous ones (float32 loses orthogonality
        within a few steps otherwise), and directions that vanish are dropped, so blocks may shrink.
    Cost: one product with H a step, and O(d n block) for the re-orthogonalisation, n the size of the basis so far.
    """

    def __init__(self, start: Float[Tensor, "d block"], locked: Float[Tensor, "d l"] | None = None) -> None:
        """Begin with the span of `start`, kept orthogonal to the orthonormal columns `locked` (deflation)."""
        self.locked = locked
        first, self.start_coordinates = _orthonormalise(start, [] if locked is None else [locked])
        self.products: list[Tensor] = []  # columns of T, block by block
        self._basis = first
        self.next_block: Tensor | None = first
        self.coupling_block: Tensor = first.new_zeros(0, 0)

    @property
    def pending(self) -> Float[Tensor, "d block"]:
        """The block whose product with H the iteration waits for (no columns once the space is invariant)."""
        return self.next_block if self.next_block is not None else self._basis[:, :0]

    @property
    def basis(self) -> Float[Tensor, "d n"]:
        """Orthonormal basis Q of the space whose products are known."""
        return self._basis

    @property
    def exhausted(self) -> bool:
        """True when the space is invariant under H to rounding."""
        return self.next_block is None

    def advance(self, product: Float[Tensor, "d block"]) -> None:
        """Take H @ pending and make the next block."""
        block = self.next_block
        if block is None:
            return
        if self.products:
            self._basis = torch.cat([self._basis, block], dim=1)
        coordinates = self._basis.mH @ product
        self.products.append(coordinates)
        remainder = product - self._basis @ coordinates
        against = [self._basis] if self.locked is None else [self._basis, self.locked]
        scale = torch.linalg.matrix_norm(product)
        following, self.coupling_block = _orthonormalise(remainder, against, floor=float(scale))
        self.next_block = following if following.shape[1] else None

    def ritz(self) -> RitzPairs:
        """Eigen-decomposition of T, with the residuals of its pairs."""
        size = self._basis.shape[1]
        T = torch.zeros(size, size, dtype=torch.float64, device=self._basis.device)
        column = 0
        for coordinates in self.products:
            rows, width = coordinates.shape
            T[:rows, column : column + width] = coordinates.double()
            column += width
        # Only the upper block triangle is written above; the lower one follows by symmetry.
        T = torch.triu(T) + torch.triu(T, diagonal=1).mH
        values, vectors = torch.linalg.eigh(T)
        values, vectors = values.flip(0), vectors.flip(1)
        width = self.products[-1].shape[1]
        return RitzPairs(values, vectors, self.coupling_block.double() @ vectors[size - width :])

    def ritz_vectors(self, pairs: RitzPairs, k: int) -> Float[Tensor, "d k"]:
        """The k leading Ritz vectors as columns in the original space."""
        return self._basis @ pairs.vectors[:, :k].to(self._basis.dtype)


def _orthonormalise(
    block: Float[Tensor, "d block"], against: Sequence[Float[Tensor, "d _"]], floor: float | None = None
) -> tuple[Float[Tensor, "d kept"], Float[Tensor, "kept block"]]:
    """Q, R with  block - projections = Q R,  Q orthonormal and orthogonal to `against`, vanishing directions dropped.

    The Gram-Schmidt pass here is the second one for a Lanczos remainder ("twice is enough", Parlett section 6.9). The
    singular values of R tell which directions are rounding (they would only add noise), and whether the smallest one
    was amplified so much that a third pass is due.
    """
    scale = floor if floor is not None else float(torch.linalg.matrix_norm(block))
    tiny = 32 * torch.finfo(block.dtype).eps * scale
    room = block.shape[0] - sum(basis.shape[1] for basis in against)
    for basis in against:
        block = block - basis @ (basis.mH @ block)
    Q, R = torch.linalg.qr(block)
    U, S, Vh = torch.linalg.svd(R.double())
    kept = min(int((tiny < S).sum()), room)
    if kept < S.shape[0]:
        Q, R = Q @ U[:, :kept].to(Q.dtype), (S[:kept, None] * Vh[:kept]).to(R.dtype)
    if against and kept and float(S[kept - 1]) < AMPLIFIED * scale:
        for basis in against:
            Q = Q - basis @ (basis.mH @ Q)
        Q, correction = torch.linalg.qr(Q)
        R = correction @ R
    return Q, R


def gram_together(
    W0: LinearOperator,
    updates: Sequence[LowRankUpdate | None],
    blocks: Sequence[Float[Tensor, "d _"]],
) -> list[Float[Tensor, "d _"]]:
    """H_i @ X_i for several matrices W_i = W0 + update_i with one pass each way over W0.

    H_i is W_i W_i^H when d_out <= d_in and W_i^H W_i otherwise: the smaller of the two.
    """
    d_out, d_in = W0.shape
    widths = [block.shape[1] for block in blocks]
    left = d_out <= d_in
    stacked = torch.cat(list(blocks), dim=1)
    half = list((W0.rmatmat(stacked) if left else W0.matmat(stacked)).split(widths, dim=1))
    for i, update in enumerate(updates):
        if update is not None:
            half[i] = half[i] + (update.rmatmat(blocks[i]) if left else update.matmat(blocks[i]))
    stacked = torch.cat(half, dim=1)
    full = list((W0.matmat(stacked) if left else W0.rmatmat(stacked)).split(widths, dim=1))
    for i, update in enumerate(updates):
        if update is not None:
            full[i] = full[i] + (update.matmat(half[i]) if left else update.rmatmat(half[i]))
    return full
