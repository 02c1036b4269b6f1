"""What a scan keeps of W0 for the next one: the leading eigenpairs that its Krylov runs have settled."""

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.engine.factors import BaseFactors, LeadingFactors
from spectra.engine.question import largest_eigenvalue
from spectra.linalg.angles import angle_bounds
from spectra.linalg.krylov import BlockLanczos, RitzPairs, gram_together

# Leading factors are kept while their residual stays below this fraction of the largest eigenvalue ...
KEPT_RESIDUAL = 2e-5
# ... their angle below this bound, and their number below this and a quarter of the space.
KEPT_ANGLE = 1e-3
KEPT_COUNT = 96
# A first scan may spend this many passes more on leading vectors that the following ones then need not seek.
EXTRA_PASSES = 4


def learn(base: BaseFactors, run: BlockLanczos, pairs: RitzPairs, *, floor: float, wanted: int = 0) -> None:
    """Keep the leading vectors of W0 that the run has settled: the next scan on this base starts from them.

    Args:
        base: The base. Where what is learned of it is stored, the run is carried on for it.
        run: A run on its Gram operator, orthogonal to what is known already.
        pairs: Its Ritz pairs.
        floor: An eigenvalue that the Gram operator is proven to exceed everywhere, or 0.
        wanted: Leading vectors to be known in the end, those of earlier scans included, if `EXTRA_PASSES` over W0
            suffice for it.
    """
    known = base.leading
    missing = wanted - (known.values.shape[0] if known is not None else 0)
    count, angles, total = _kept(base, run, pairs)
    for _ in range(EXTRA_PASSES if base.is_stored else 0):
        if run.exhausted or count >= missing:
            break
        run.advance(gram_together(base.W0, [None], [run.pending])[0])
        pairs = run.ritz()
        count, angles, total = _kept(base, run, pairs)
    vectors, values, sines = run.ritz_vectors(pairs, count), pairs.values[:count], angles[:count]
    worst = float(total[count - 1]) if count else (known.residual if known is not None else 0.0)
    if known is not None:
        vectors = torch.cat([known.vectors, vectors], dim=1)
        values, sines = torch.cat([known.values, values]), torch.cat([known.sin_angles, sines])
    if values.shape[0]:
        base.learn_leading(LeadingFactors(vectors, values, sines, worst, floor))


def learn_from_spectrum(base: BaseFactors) -> None:
    """One block Lanczos step from the leading eigenvectors gives them the residuals of products with W0 itself."""
    spectrum = base.spectrum()
    run = BlockLanczos(spectrum.vectors[:, : min(KEPT_COUNT // 2, spectrum.values.shape[0] // 4)])
    run.advance(gram_together(base.W0, [None], [run.pending])[0])
    learn(base, run, run.ritz(), floor=max(float(spectrum.values[-1]) - spectrum.slack, 0.0))


def _kept(
    base: BaseFactors, run: BlockLanczos, pairs: RitzPairs
) -> tuple[int, Float[Tensor, " n"], Float[Tensor, " n"]]:
    """How many leading Ritz pairs can be kept, the angle bounds of all, and their residuals with what is known."""
    known = base.leading
    angles = angle_bounds(pairs, pairs.values.shape[0], run.basis.dtype)
    residual = (pairs.residuals**2).cumsum(dim=0).sqrt()
    total = (residual**2 + (known.residual if known is not None else 0.0) ** 2).sqrt()
    settled = (angles <= KEPT_ANGLE) & (total <= KEPT_RESIDUAL * largest_eigenvalue(known, pairs))
    room = min(KEPT_COUNT, run.basis.shape[0] // 4) - (known.values.shape[0] if known is not None else 0)
    return max(min(int(torch.cumprod(settled.int(), dim=0).sum()), room), 0), angles, total
