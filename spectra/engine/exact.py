"""The definition, word for word: two thin SVDs and all cosines."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.engine.bounds import CosineBounds, exact_bounds, rotation, undefined
from spectra.engine.factors import BaseFactors
from spectra.engine.tuned import Tuned
from spectra.linalg.placement import numbers
from spectra.linalg.svd import SVD, thin_svd
from spectra.linalg.triplets import clustered


def exact(base: BaseFactors, tuned: Sequence[Tuned], k: int, epsilons: Float[Tensor, " e"]) -> list[CosineBounds]:
    """Bounds of every tuned matrix from full factorisations of W0 and W_tuned.

    Source: Shuttleworth et al., arXiv:2410.21228, Algorithm 1; see `metrics.intruders`.
    Cost: one O(d_out d_in n) factorisation of W0 for all, and one per tuned matrix.
    """
    if base.is_zero:
        return [no_base_vectors(base, each, k, "exact") for each in tuned]
    full = base.full()
    return [_one(base, full, each, k, epsilons) for each in tuned]


def no_base_vectors(base: BaseFactors, tuned: Tuned, k: int, method: str) -> CosineBounds:
    """The leading vectors where W0 is zero: there is nothing that they could resemble."""
    leading = thin_svd(tuned.operator(base.W0).dense()).leading(k)
    return undefined(leading.S, leading.U, method)


def _one(base: BaseFactors, full: SVD, tuned: Tuned, k: int, epsilons: Float[Tensor, " e"]) -> CosineBounds:
    svd = thin_svd(tuned.operator(base.W0).dense())
    leading = svd.leading(k)
    ill = clustered(svd.S.cpu(), leading.S.shape[0], svd.S.dtype)
    cosines = full.U.mH @ leading.U
    error = _rounding(svd, full.U[:, cosines.abs().argmax(dim=0)])
    return exact_bounds(full, cosines, leading.S, ill, epsilons, "exact", lambda: leading.U, error)


def _rounding(svd: SVD, nearest: Float[Tensor, "d_out k"]) -> Float[Tensor, " k"]:
    """What the rounding of the leading tuned vectors may change of their cosines to the nearest base vectors."""
    k = nearest.shape[1]
    S = svd.S.cpu()
    turned = rotation(S[:k], S, float(S[0]), torch.finfo(S.dtype).eps)
    return (turned**2 * numbers(nearest.mH @ svd.U) ** 2).sum(dim=1).sqrt()
