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

from spectra.linalg.operators import Dense, LinearOperator, LowRankUpdate, RowChunked
from spectra.linalg.placement import numbers
from spectra.linalg.threads import one_thread

# A direction this small against the product it came from has lost two digits of orthogonality.
AMPLIFIED = 0.03
# Times that it is made orthogonal to all others again: once, but for directions of a start that lie among them.
LARGEST_REPEATS = 3
# Room for this many blocks at first; it doubles when it is full.
INITIAL_BLOCKS = 12


@dataclass(frozen=True, eq=False)
class RitzPairs:
    """Rayleigh-Ritz data of a Krylov space, in float64 on the CPU (`placement`: the projected problem is small).

    Attributes:
        values: Ritz values of H, decreasing.
        vectors: Orthonormal coordinates of the Ritz vectors in the basis Q, as columns.
        coupling: R E^T @ vectors: column l holds the residual of Ritz pair l in the next block's basis.
        largest: The largest eigenvalue of H that is known, a deflated one included: what rounding is relative to.
        random: Coordinates of the random columns of the start block in the Ritz basis, scaled so that in the whole
            space they are vectors of independent standard normal numbers.
        dimension: Rows of H.
        deflation: Norm of the coupling between H and the deflated vectors: by how much the pairs are those of another
            operator.
        rounding: By how much the relation of every pair may be off, in units of the arithmetic's epsilon, where it is
            known better than from the values (`angles.residual_rounding`).
    """

    values: Float[Tensor, " n"]
    vectors: Float[Tensor, "n n"]
    coupling: Float[Tensor, "block n"]
    largest: float
    random: Float[Tensor, "n p"]
    dimension: int
    deflation: float = 0.0
    rounding: Float[Tensor, " n"] | None = None

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

    def __init__(
        self,
        start: Float[Tensor, "d block"],
        locked: Float[Tensor, "d l"] | None = None,
        *,
        largest: float = 0.0,
        deflation: float = 0.0,
        random: int = 0,
        whole: bool = False,
        eigenvalues: Float[Tensor, " l"] | None = None,
    ) -> None:
        """Begin with the span of `start`, kept orthogonal to the orthonormal columns `locked` (deflation).

        Args:
            start: Columns that need not be orthonormal.
            locked: Eigenvectors of H that are known.
            largest: The largest of their eigenvalues.
            deflation: Their residual ||H X - X Theta||.
            random: The first so many columns of the start are `random_columns`.
            whole: Keep every direction of the start, however near to the others: all columns lie in the space exactly.
            eigenvalues: Those of `locked`, which then belong to the space: their products are known.
        """
        self.largest, self.deflation, self.random = largest, deflation, random
        self.products: list[Tensor] = []  # columns of T, block by block, on the CPU
        # Vectors are held as rows, one below the other: those locked, the basis, the block that waits for its product.
        self._locked = 0 if locked is None else locked.shape[1]
        self._rows = start.new_empty(self._locked + INITIAL_BLOCKS * start.shape[1], start.shape[0])
        if locked is not None:
            self._rows[: self._locked] = locked.mH
        self._known = self._end = self._locked  # rows whose products are known (or not wanted), and all rows
        scale = float(torch.linalg.matrix_norm(start))
        self.start_coordinates = self._append(start.mH.contiguous(), scale, whole=whole)
        if locked is not None and eigenvalues is not None:
            self._locked = 0
            self.products.append(torch.diag(eigenvalues).cpu())
            self.start_coordinates = torch.cat([(locked.mH @ start).cpu(), self.start_coordinates])
        self.coupling_block: Tensor = torch.zeros(0, 0, dtype=start.dtype)

    @property
    def pending(self) -> Float[Tensor, "d block"]:
        """The block whose product with H the iteration waits for (no columns once the space is invariant)."""
        return self._rows[self._known : self._end].mH

    @property
    def basis(self) -> Float[Tensor, "d n"]:
        """Orthonormal basis Q of the space whose products are known."""
        return self._rows[self._locked : self._known].mH

    @property
    def is_deflated(self) -> bool:
        """True when the space is kept orthogonal to known vectors."""
        return self._locked > 0

    @property
    def exhausted(self) -> bool:
        """True when the space is invariant under H to rounding."""
        return self._known == self._end

    def advance(self, product: Float[Tensor, "d block"]) -> None:
        """Take H @ pending and make the next block."""
        if self.exhausted:
            return
        self._known = self._end
        block = product.mH.contiguous()
        coordinates = block @ self._rows[: self._known].mH
        self.products.append(numbers(coordinates[:, self._locked :].mH))
        remainder = torch.addmm(block, coordinates, self._rows[: self._known], alpha=-1)
        self.coupling_block = self._append(remainder, float(torch.linalg.matrix_norm(block)))

    def projected(self) -> Float[Tensor, "n n"]:
        """T, in float64."""
        size = self._known - self._locked
        T = torch.zeros(size, size, dtype=torch.float64)
        column = 0
        for coordinates in self.products:
            rows, width = coordinates.shape
            T[:rows, column : column + width] = coordinates
            column += width
        # Only the upper block triangle is written above; the lower one follows by symmetry.
        return torch.triu(T) + torch.triu(T, diagonal=1).mH

    @one_thread()
    def ritz(self, T: Float[Tensor, "n n"] | None = None) -> RitzPairs:
        """Eigen-decomposition of T, with the residuals of its pairs.

        Args:
            T: Another operator in the same space, that differs from H within the space only; by default `projected()`.
        """
        size = self._known - self._locked
        values, vectors = torch.linalg.eigh(self.projected() if T is None else T)
        values, vectors = values.flip(0), vectors.flip(1)
        width = self.products[-1].shape[1]
        largest = max(self.largest, float(values[0]) if size else 0.0)
        start = self.start_coordinates[:, : self.random].double()
        random = vectors[: start.shape[0]].mH @ start * self._rows.shape[1] ** 0.5
        coupling = self.coupling_block.double() @ vectors[size - width :]
        return RitzPairs(values, vectors, coupling, largest, random, self._rows.shape[1], self.deflation)

    def ritz_vectors(self, pairs: RitzPairs, k: int) -> Float[Tensor, "d k"]:
        """The k leading Ritz vectors as columns in the original space."""
        return self.basis @ pairs.vectors[:, :k].to(self._rows)

    @one_thread()
    def _append(
        self, block: Float[Tensor, "block d"], scale: float, *, whole: bool = False
    ) -> Float[Tensor, "kept block"]:
        """Append the rows Q of  block - projections = R^H Q,  Q orthonormal and orthogonal to all rows; gives R.

        The Gram-Schmidt pass here is the second one for a Lanczos remainder ("twice is enough", Parlett section 6.9).
        The singular values of R tell which directions are rounding of the `scale` that the block comes from (they
        would only add noise), and whether the smallest one was amplified so much that a third pass is due.
        """
        earlier = self._rows[: self._end]
        room = block.shape[1] - self._end
        block = torch.addmm(block, block @ earlier.mH, earlier, alpha=-1)
        Q, R = torch.linalg.qr(block.mH)
        R = R.cpu()
        S = torch.linalg.svdvals(R.double())
        kept = S.shape[0] if whole else int((32 * torch.finfo(block.dtype).eps * scale < S).sum())
        kept = min(kept, room)
        if kept < S.shape[0]:
            U, S, Vh = torch.linalg.svd(R.double())
            Q, R = Q @ U[:, :kept].to(Q), (S[:kept, None] * Vh[:kept]).to(R.dtype)
        least = float(S[kept - 1]) / scale if kept and scale else 1.0
        for _ in range(LARGEST_REPEATS if self._end else 0):
            if least >= AMPLIFIED:
                break
            rows = Q.mH.contiguous()
            Q, correction = torch.linalg.qr(torch.addmm(rows, rows @ earlier.mH, earlier, alpha=-1).mH)
            correction = correction.cpu()
            R, least = correction @ R, float(correction.diagonal().abs().min())
        if self._end + kept > self._rows.shape[0]:
            self._rows = torch.cat([self._rows, torch.empty_like(self._rows)])
        self._rows[self._end : self._end + kept] = Q.mH
        self._end += kept
        return R


def random_columns(count: int, like: Float[Tensor, "d _"], seed: int) -> Float[Tensor, "d count"]:
    """Columns of independent normal numbers with variance 1 / d: of about unit length, and the same on every device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(like.shape[0], count, generator=generator).to(like) / like.shape[0] ** 0.5


def gram_together(
    W0: LinearOperator,
    updates: Sequence[LowRankUpdate | None],
    blocks: Sequence[Float[Tensor, "d _"]],
) -> list[Float[Tensor, "d _"]]:
    """H_i @ X_i for several matrices W_i = W0 + update_i with one pass each way over W0, or one for both ways.

    H_i is W_i W_i^H when d_out <= d_in and W_i^H W_i otherwise: the smaller of the two.
    """
    d_out, d_in = W0.shape
    widths = [block.shape[1] for block in blocks]
    left = d_out <= d_in
    stacked = torch.cat(list(blocks), dim=1)
    if not left and isinstance(W0, Dense) and all(update is None for update in updates):
        return list(W0.gram(stacked).split(widths, dim=1))
    if not left and isinstance(W0, RowChunked):
        return _in_one_pass(W0, updates, blocks)
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


def smaller_gram(W: LinearOperator, X: Float[Tensor, "d _"]) -> Float[Tensor, "d _"]:
    """H @ X for the smaller Gram operator of one matrix; of a square one W^H W, for which it is read once."""
    if W.shape[0] == W.shape[1] and isinstance(W, Dense):
        return W.gram(X)
    return gram_together(W, [None], [X])[0]


def _in_one_pass(
    W0: RowChunked, updates: Sequence[LowRankUpdate | None], blocks: Sequence[Float[Tensor, "d _"]]
) -> list[Float[Tensor, "d _"]]:
    """The same for a tall W0 that is read block by block."""
    beside = [
        block.new_zeros(W0.shape[0], block.shape[1]) if update is None else update.matmat(block)
        for update, block in zip(updates, blocks, strict=True)
    ]
    half, full = W0.both_ways(torch.cat(list(blocks), dim=1), torch.cat(beside, dim=1))
    widths = [block.shape[1] for block in blocks]
    return [
        product if update is None else product + update.rmatmat(image)
        for update, image, product in zip(updates, half.split(widths, dim=1), full.split(widths, dim=1), strict=True)
    ]
