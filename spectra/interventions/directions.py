"""Scaling singular directions of W_tuned: the edit as a low-rank update, never as a dense matrix."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.engine.methods import SMALLEST_SPACE
from spectra.errors import SpectrumError
from spectra.linalg.operators import LinearOperator, LowRankUpdate, Updated
from spectra.linalg.precision import full_precision
from spectra.linalg.svd import SVD, low_rank_svd, thin_svd
from spectra.linalg.triplets import leading_vectors

LARGEST_SCALE = 2.0
# What is written into weights is sought to this sine of its angle, or as near as the arithmetic brings it.
EDITED_ANGLE = 1e-5


@full_precision()
def leading_triplets(W0: LinearOperator, update: LowRankUpdate | None, k: int) -> SVD:
    """The k leading singular triplets of  W0 + update,  with  v_j = W^H u_j / sigma_j  and  sigma_j = ||W^H u_j||.

    With these v_j the product u_j sigma_j v_j^H is the projection u_j u_j^H W exactly, whatever error u_j carries.

    Args:
        W0: The base.
        update: The tuned matrix minus the base; None where `W0` is the tuned matrix itself.
        k: Number of triplets.

    Raises:
        SpectrumError: If a matrix is not finite, or its factorisation does not converge.

    Source: block Lanczos (`linalg.triplets`), whose vectors lie within a proven angle of the true ones.
        Difference: small matrices, and those where the iteration does not settle, get the thin SVD.
    Cost: about ten passes over W0 with k + 6 columns; O(d_out d_in n) for the thin SVD.
    """
    W = W0 if update is None else Updated(W0, update)
    k = min(k, *W.shape)
    if min(W.shape) >= SMALLEST_SPACE * (k + 6):
        (found,) = leading_vectors(W0, [update], k, tolerance=EDITED_ANGLE)
        if found.converged:
            return triplets_of(W, found.U)
    return thin_svd(W.dense()).leading(k)


def triplets_of(W: LinearOperator, U: Float[Tensor, "d_out k"]) -> SVD:
    """The part of W that reads out into orthonormal directions:  U U^H W = U diag(S) Vh,  S_j = ||W^H u_j||."""
    image = W.rmatmat(U)
    S = torch.linalg.vector_norm(image, dim=0)
    return SVD(U, S, (image / S.clamp_min(torch.finfo(S.dtype).tiny)).mH)


def scaled_directions(triplets: SVD, chosen: Sequence[int], lam: float) -> LowRankUpdate:
    """The edit that multiplies the chosen singular values of W_tuned by lambda.

    edit = (lambda - 1) sum_{j in chosen} u_j sigma_j v_j^H;  W_tuned + edit has the value lambda sigma_j at j.

    Args:
        triplets: Leading triplets of W_tuned.
        chosen: Positions among them.
        lam: Factor in [0, 2]: 0 removes, 1 changes nothing, above 1 amplifies.

    Returns:
        A low-rank update of W_tuned; its rank is the number of chosen directions.

    Raises:
        SpectrumError: If lambda lies outside [0, 2].

    Source: Shuttleworth et al., arXiv:2410.21228, section 5, W = W0 + delta_W + (lambda - 1) u_i sigma_i v_i^T.
        Difference: any set of directions; the paper scales the single highest-ranked intruder of each matrix.
    """
    require_scale(lam)
    index = torch.tensor(list(chosen), dtype=torch.long)
    root = triplets.S[index].sqrt()
    return LowRankUpdate(triplets.U[:, index] * root, root[:, None] * triplets.Vh[index], lam - 1)


def truncated(update: LowRankUpdate, rank: int) -> tuple[LowRankUpdate, float]:
    """The nearest update of a given rank in the Frobenius norm, and the share of the energy that it loses.

    With  scaling B A = U diag(S) Vh  the factors become  B = U_r sqrt(S_r / scaling),  A = sqrt(S_r / scaling) Vh_r,
    and the lost share is  sum_{j > r} S_j^2 / sum_j S_j^2.

    Args:
        update: The update; its scaling is kept (and its sign, carried by B).
        rank: Columns of the new B; an update of no higher rank is returned as it is.

    Source: Eckart & Young 1936; the SVD by `low_rank_svd`.
        Difference: singular values shared equally between the factors, as peft's `reduce_intruder_dimension` does.
    """
    if update.rank <= rank:
        return update, 0.0
    svd = low_rank_svd(update.B, update.A, update.scaling)
    root = (svd.S[:rank] / abs(update.scaling)).sqrt()
    sign = -1.0 if update.scaling < 0 else 1.0
    energy = svd.S.double() ** 2
    total = float(energy.sum())
    lost = float(energy[rank:].sum()) / total if total > 0 else 0.0
    return LowRankUpdate(sign * svd.U[:, :rank] * root, root[:, None] * svd.Vh[:rank], update.scaling), lost


def frobenius(update: LowRankUpdate) -> float:
    """||scaling * B @ A||_F from the QR of the factors, in float64.  Cost O((d_out + d_in) rank^2)."""
    S = low_rank_svd(update.B.double(), update.A.double(), update.scaling).S
    return float(torch.linalg.vector_norm(S))


def require_scale(lam: float) -> None:
    """Refuse a factor outside [0, 2].

    Raises:
        SpectrumError: With the value.
    """
    if not 0 <= lam <= LARGEST_SCALE:
        raise SpectrumError(
            f"lambda is {lam}, outside [0, {LARGEST_SCALE:g}]. Use 0 to remove the directions, 0.7 to shrink them."
        )
