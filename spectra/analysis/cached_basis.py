"""Every cosine exactly, from the full factors of W0: the method for sweeps."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.analysis.bounds import CosineBounds, exact_bounds
from spectra.analysis.exact import exact
from spectra.analysis.factors import BaseFactors
from spectra.analysis.tuned import Tuned
from spectra.linalg.basis import in_base_basis
from spectra.linalg.svd import SVD
from spectra.linalg.triplets import LeadingVectors, leading_vectors
from spectra.metrics.intruders import max_cosines


def cached_basis(
    base: BaseFactors, tuned: Sequence[Tuned], k: int, epsilons: Float[Tensor, " e"]
) -> list[CosineBounds]:
    """Bounds of every tuned matrix from one factorisation of W0, ever.

    An adapter is diagonal plus low rank in the basis of W0 (`linalg.basis`), where a Krylov step costs O(n rank); a
    dense W_tuned takes a few passes over itself. The cosines to all u_i are then coordinates or one product.
    A tuned matrix whose leading vectors do not settle, or whose error bound straddles an epsilon, is factorised.
    """
    svd = base.full()
    results = []
    for each in tuned:
        vectors, cosines = _leading_cosines(base, svd, each, k)
        error = vectors.sin_angles.to(cosines)
        straddles = ((cosines[:, None] - epsilons.to(cosines)[None, :]).abs() <= error[:, None]).any(dim=1)
        if not vectors.converged or bool((straddles | vectors.ill_conditioned).any()):
            results += exact(base, [each], k, epsilons)
        else:
            results.append(exact_bounds(vectors.S, cosines, vectors.ill_conditioned, "cached-basis"))
    return results


def _leading_cosines(base: BaseFactors, svd: SVD, tuned: Tuned, k: int) -> tuple[LeadingVectors, Tensor]:
    n = svd.S.shape[0]
    if tuned.update is not None:
        diagonal, update = in_base_basis(svd, tuned.update)
        warm = torch.eye(n, k + 2, dtype=svd.S.dtype, device=svd.S.device)
        [vectors] = leading_vectors(diagonal, [update], k, warm=_padded(warm, min(diagonal.shape)))
        return vectors, vectors.U[:n].abs().max(dim=0).values
    left = base.W0.shape[0] <= base.W0.shape[1]
    warm = svd.U[:, : k + 2] if left else svd.Vh[: k + 2].mH
    [vectors] = leading_vectors(tuned.operator(base.W0), [None], k, warm=warm)
    return vectors, max_cosines(svd.U, vectors.U)


def _padded(warm: Tensor, rows: int) -> Tensor:
    return torch.nn.functional.pad(warm, (0, 0, 0, rows - warm.shape[0]))
