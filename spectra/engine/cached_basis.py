"""Every cosine exactly, from the full factors of W0: the method for sweeps."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.engine.bounds import CosineBounds, exact_bounds
from spectra.engine.exact import exact, no_base_vectors
from spectra.engine.factors import BaseFactors
from spectra.engine.tuned import Tuned
from spectra.linalg.basis import counted_in_basis, in_base_basis, out_of_base_basis
from spectra.linalg.gram_spectrum import NARROW, small_leading_vectors
from spectra.linalg.operators import Dense, RowChunked
from spectra.linalg.svd import SVD
from spectra.linalg.threads import one_thread
from spectra.linalg.triplets import ANGLE_TOLERANCE, WARM_SHARE, LeadingVectors, leading_vectors

# A Krylov step costs so little in the basis of W0 that the vectors are sought to this sine of their angle.
CHEAP_ANGLE = 1e-4


def cached_basis(
    base: BaseFactors,
    tuned: Sequence[Tuned],
    k: int,
    epsilons: Float[Tensor, " e"],
    *,
    narrow: int = NARROW,
) -> list[CosineBounds]:
    """Bounds of every tuned matrix from one factorisation of W0, ever.

    An adapter is diagonal plus low rank in the basis of W0 (`linalg.basis`), where a Krylov step costs O(n rank); a
    dense W_tuned takes a few passes over itself. The cosines to all u_i are then coordinates or one product.
    Up to the smaller dimension `narrow` all eigenpairs of the Gram matrix of W_tuned are found instead.
    A tuned matrix whose leading vectors do not settle, or whose error bound straddles an epsilon, is factorised.
    """
    if base.is_zero:
        return [no_base_vectors(base, each, k, "cached-basis") for each in tuned]
    full = base.full()
    results = []
    for each in tuned:
        vectors, U, cosines = _leading_cosines(base, full, each, k, narrow)
        S, ill, error = vectors.S, vectors.ill_conditioned, vectors.sin_angles.double()
        bounds = exact_bounds(full, cosines, S, ill, epsilons, "cached-basis", U, error)
        doubtful = ((bounds.lower[:, None] < epsilons) & (epsilons <= bounds.upper[:, None])).any(dim=1)
        if not vectors.converged or bool((doubtful | vectors.ill_conditioned).any()):
            results += exact(base, [each], k, epsilons)
        else:
            results.append(bounds)
    return results


def _leading_cosines(
    base: BaseFactors, full: SVD, tuned: Tuned, k: int, narrow: int
) -> tuple[LeadingVectors, Callable[[], Tensor], Tensor]:
    """Leading vectors of one tuned matrix, a call that gives them, and their cosines to all base vectors."""
    n, W = full.S.shape[0], tuned.operator(base.W0)
    if n <= narrow and not isinstance(base.W0, RowChunked):
        with one_thread():
            vectors = small_leading_vectors(W, k, ANGLE_TOLERANCE)
        return vectors, lambda: vectors.U, Dense(full.U.mH).matmat(vectors.U)
    if tuned.update is not None:
        diagonal, update = in_base_basis(full, tuned.update)
        warm = torch.eye(n, WARM_SHARE * k, dtype=full.S.dtype, device=full.S.device)
        counter = partial(counted_in_basis, full.S, update)
        [vectors] = leading_vectors(diagonal, [update], k, warm=warm, tolerance=CHEAP_ANGLE, counter=counter)
        return vectors, partial(out_of_base_basis, full, tuned.update, vectors.U), vectors.U[:n]
    wide = base.W0.shape[0] <= base.W0.shape[1]
    warm = full.U if wide else full.Vh.mH
    [vectors] = leading_vectors(W, [None], k, warm=warm)
    return vectors, lambda: vectors.U, Dense(full.U.mH).matmat(vectors.U)
