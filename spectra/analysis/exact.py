"""The definition, word for word: two thin SVDs and all cosines."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from spectra.analysis.bounds import CosineBounds, exact_bounds
from spectra.analysis.factors import BaseFactors
from spectra.analysis.tuned import Tuned
from spectra.linalg.svd import thin_svd
from spectra.linalg.triplets import clustered
from spectra.metrics.intruders import max_cosines


def exact(base: BaseFactors, tuned: Sequence[Tuned], k: int, epsilons: Float[Tensor, " e"]) -> list[CosineBounds]:
    """Bounds of every tuned matrix from full factorisations of W0 and W_tuned.

    Source: Shuttleworth et al., arXiv:2410.21228, Algorithm 1; see `metrics.intruders`.
    Cost: one O(d_out d_in n) factorisation of W0 for all, and one per tuned matrix.
    """
    del epsilons  # exact cosines answer every epsilon
    U0 = base.full().U
    return [_one(base, U0, each, k) for each in tuned]


def _one(base: BaseFactors, U0: Tensor, tuned: Tuned, k: int) -> CosineBounds:
    svd = thin_svd(tuned.operator(base.W0).dense())
    leading = svd.leading(k)
    cosines = max_cosines(U0, leading.U)
    return exact_bounds(leading.S, cosines, clustered(svd.S, leading.S.shape[0], svd.S.dtype), "exact")
