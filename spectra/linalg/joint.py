"""One Krylov space for W0 and for W0 + delta_W, where delta_W has a small rank.

With  delta_W = U S V^H  (its own SVD, rank r),  Z = W0 V S  and  H0 = W0 W0^H,

    H = (W0 + delta_W) (W0 + delta_W)^H  =  H0 + U Z^H + Z U^H + U S^2 U^H,

and likewise on the right side with U and V exchanged. If U = Q G_U and Z = Q G_Z lie in the start block, then a block
Lanczos run on H0 is one on H as well: from  H0 Q = Q T + Q_next R E^T  follows

    H Q = Q (T + G_U G_Z^H + G_Z G_U^H + G_U S^2 G_U^H) + Q_next R E^T,

with the same coupling. So one run, with products with W0 alone, gives the leading vectors of W0 + delta_W with their
residuals, the count that none of them is missing (`completeness`: the same random columns), the leading vectors of W0,
and the certificate for what the two have in common (`certificate`), without a step made twice.

Known eigenvectors X of H0 may stand before Q: from  H0 X = X Theta + R_X  with a small R_X their products are known,
and R_X adds to the error of the relation. What is left to be found converges as if they had been deflated.

Source: Golub & Van Loan, Matrix Computations, 4th ed., section 10.1, for the recurrence; the identity is derived above.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.angles import RELATION_ROUNDINGS
from spectra.linalg.krylov import BlockLanczos, RitzPairs, random_columns
from spectra.linalg.operators import LinearOperator, LowRankUpdate
from spectra.linalg.placement import numbers
from spectra.linalg.svd import SVD, low_rank_svd
from spectra.linalg.threads import one_thread
from spectra.linalg.triplets import LEAST_PASSES_BESIDE_KNOWN, RANDOM_COLUMNS, Search

# Beyond this rank two columns per direction cost more than the steps that they save.
LARGEST_RANK = 12
# The start block may fill this share of the space.
LARGEST_SHARE = 1 / 4


class KnownPairs(NamedTuple):
    """Orthonormal eigenvectors of the Gram operator of W0 as columns, their values, and ||H X - X Theta||_F."""

    vectors: Float[Tensor, "d l"]
    values: Float[Tensor, " l"]
    residual: float


def delta_of(update: LowRankUpdate) -> SVD:
    """The SVD of an update, without the directions that are rounding of the largest one."""
    delta = low_rank_svd(update.B, update.A, update.scaling)
    rank = int((torch.finfo(delta.S.dtype).eps * delta.S[:1] < delta.S).sum())
    return delta.leading(rank)


def change_of(W0: LinearOperator, delta: SVD) -> tuple[Float[Tensor, "d r"], Float[Tensor, "d r"]]:
    """U and Z of the module's docstring, in the smaller space of W0.  Half a pass with r columns."""
    if W0.shape[0] <= W0.shape[1]:
        return delta.U, W0.matmat(delta.Vh.mH) * delta.S
    return delta.Vh.mH, W0.rmatmat(delta.U) * delta.S


def fits_jointly(W0: LinearOperator, delta: SVD) -> bool:
    """True where one run for W0 and W0 + delta_W is worth it."""
    rank = delta.S.shape[0]
    return rank <= LARGEST_RANK and RANDOM_COLUMNS + 2 * rank <= LARGEST_SHARE * min(W0.shape)


class JointSearch(Search):
    """The search for the leading vectors of W0 + delta_W in a Krylov space of W0."""

    def __init__(
        self,
        W0: LinearOperator,
        update: LowRankUpdate,
        delta: SVD,
        k: int,
        *,
        known: KnownPairs | None = None,
        tolerance: float,
        seed: int = 0,
    ) -> None:
        """Begin with random columns and the directions of the update.

        Args:
            W0: The base.
            update: The update.
            delta: Its SVD (`delta_of`).
            k: Leading vectors wanted.
            known: Eigenpairs of the Gram operator of W0.
            tolerance: Sine of the angle at which a vector counts as found.
            seed: Of the random columns.
        """
        self.delta, self.known = delta, known
        super().__init__(W0, update, k, None, tolerance, None, seed)
        if known is not None:
            self.least_passes = LEAST_PASSES_BESIDE_KNOWN

    def _begin(self, warm: Float[Tensor, "d w"] | None, seed: int) -> BlockLanczos:
        W0, delta = self.W0, self.delta
        rank, (own, image) = delta.S.shape[0], change_of(W0, delta)
        lengths = torch.linalg.vector_norm(image, dim=0).clamp_min(torch.finfo(image.dtype).tiny)
        start = torch.cat([random_columns(RANDOM_COLUMNS, own, seed), own, image / lengths], dim=1)
        if self.known is None:
            run = BlockLanczos(start, random=RANDOM_COLUMNS, whole=True)
        else:
            X, values = self.known.vectors, self.known.values
            run = BlockLanczos(start, X, random=RANDOM_COLUMNS, whole=True, eigenvalues=values)
        coordinates = run.start_coordinates[:, RANDOM_COLUMNS:].double()
        self.own, self.image = coordinates[:, :rank], coordinates[:, rank:] * numbers(lengths)
        return run

    @property
    def multiplied(self) -> LowRankUpdate | None:
        """None: the products are those of W0."""
        return None

    @one_thread()
    def ritz(self) -> RitzPairs:
        """Ritz pairs of the Gram operator of W0 + delta_W.

        The relation of a pair is off by the rounding of the products with W0 and of the added part, which either may
        be larger than its value says, where the two cancel.
        """
        T = self.run.projected()
        rows, S = self.own.shape[0], numbers(self.delta.S)
        mixed = self.own @ self.image.mH
        changed = T.clone()
        changed[:rows, :rows] += mixed + mixed.mH + (self.own * S**2) @ self.own.mH
        pairs = self.run.ritz(changed)
        size = float(torch.linalg.matrix_norm(self.image)) + float(S.square().sum())
        largest = max(pairs.largest, float(torch.linalg.eigvalsh(T)[-1])) if T.shape[0] else pairs.largest
        energy = (pairs.vectors * (T @ pairs.vectors)).sum(dim=0).clamp_min(0)
        along_own = torch.linalg.vector_norm(self.own.mH @ pairs.vectors[:rows], dim=0)
        along_image = torch.linalg.vector_norm(self.image.mH @ pairs.vectors[:rows], dim=0)
        rounding = (largest * energy).sqrt() + size * along_own + along_image
        if self.known is not None:
            rounding = rounding + self.known.residual / (RELATION_ROUNDINGS * torch.finfo(self.W0.dtype).eps)
        return RitzPairs(
            pairs.values, pairs.vectors, pairs.coupling, largest, pairs.random, pairs.dimension, 0.0, rounding
        )
