"""The definition, word for word: two thin SVDs and all cosines."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from spectra.engine.bounds import CosineBounds, exact_bounds
from spectra.engine.factors import BaseFactors
from spectra.engine.tuned import Tuned
from spectra.linalg.svd import SVD, thin_svd
from spectra.linalg.triplets import clustered


def exact(base: BaseFactors, tuned: Sequence[Tuned], k: int, epsilons: Float[Tensor, " e"]) -> list[CosineBounds]:
    """Bounds of every tuned matrix from full factorisations of W0 and W_tuned.

    Source: Shuttleworth et al., arXiv:2410.21228, Algorithm 1; see `metrics.intruders`.
    Cost: one O(d_out d_in n) factorisation of W0 for all, and one per tuned matrix.
    """
    full = base.full()
    return [_one(base, full, each, k, epsilons) for each in tuned]


def _one(base: BaseFactors, full: SVD, tuned: Tuned, k: int, epsilons: Float[Tensor, " e"]) -> CosineBounds:
    svd = thin_svd(tuned.operator(base.W0).dense())
    leading = svd.leading(k)
    ill = clustered(svd.S, leading.S.shape[0], svd.S.dtype)
    return exact_bounds(full.S, full.U.mH @ leading.U, leading.S, ill, epsilons, "exact", lambda: leading.U)
