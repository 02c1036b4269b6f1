"""What a scan keeps of W0 for the next one: the leading eigenpairs that its Krylov run has settled."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.engine.factors import BaseFactors, LeadingFactors
from spectra.linalg.angles import angle_bounds
from spectra.linalg.completeness import Count, complete_pairs
from spectra.linalg.krylov import BlockLanczos, RitzPairs, gram_together

# Leading factors are kept while their residual stays below this fraction of the largest eigenvalue ...
KEPT_RESIDUAL = 2e-5
# ... their angle below this bound, and their number below this and a quarter of the space.
KEPT_ANGLE = 1e-3
KEPT_COUNT = 96
# A first scan may spend this many passes more on leading vectors that the following ones then need not seek.
EXTRA_PASSES = 4


def learn(
    base: BaseFactors, run: BlockLanczos, pairs: RitzPairs, count: Count | None = None, *, wanted: int = 0
) -> None:
    """Keep the leading vectors of W0 that the run has settled: the next scan on this base starts from them.

    They are kept as one value, all from this run, where it knows more of them than an earlier one did. A run that was
    kept orthogonal to what is known already teaches nothing.

    Args:
        base: The base. Where what is learned of it is stored, the run is carried on for it.
        run: A run on its Gram operator.
        pairs: Its Ritz pairs.
        count: How many of them are known to stand for the leading eigenvalues, if that has been asked.
        wanted: Leading vectors to be known in the end, if `EXTRA_PASSES` over W0 suffice for it.
    """
    if run.is_deflated:
        return
    for _ in range(EXTRA_PASSES if base.is_stored and base.leading is None else 0):
        if run.exhausted or _settled(pairs, run.basis.dtype) > wanted:  # the last one shows where the others end
            break
        run.advance(gram_together(base.W0, [None], [run.pending])[0])
        pairs, count = run.ritz(), None
    dtype, room = run.basis.dtype, min(KEPT_COUNT, run.basis.shape[0] // 4)
    if count is None:
        count = complete_pairs(pairs, dtype, at_least=1, at_most=min(_settled(pairs, dtype), room))
    if count is not None:
        angles = angle_bounds(pairs, count.number, dtype, count.limit)
        _keep(base, run, pairs, angles, min(count.number, room))


def learn_from_spectrum(base: BaseFactors) -> None:
    """One block Lanczos step from the leading eigenvectors gives them the residuals of products with W0 itself.

    All eigenpairs of the Gram matrix are known, so that none can be missing.
    """
    spectrum = base.spectrum()
    room = min(KEPT_COUNT // 2, spectrum.values.shape[0] // 4)
    run = BlockLanczos(spectrum.vectors[:, :room])
    run.advance(gram_together(base.W0, [None], [run.pending])[0])
    pairs = run.ritz()
    limit = float(spectrum.values[room]) + spectrum.slack
    _keep(base, run, pairs, angle_bounds(pairs, room, run.basis.dtype, limit), room)
    if base.leading is not None:
        prove_floor(base, max(float(spectrum.values[-1]) - spectrum.slack, 0.0))


def prove_floor(base: BaseFactors, floor: float) -> None:
    """Keep that no eigenvalue of the Gram operator lies below this."""
    if base.leading is not None and floor > base.leading.floor:
        base.learn_leading(replace(base.leading, floor=floor))


def _settled(pairs: RitzPairs, dtype: torch.dtype) -> int:
    """Leading Ritz pairs that may be kept, if none is missing among them."""
    return _kept(pairs, angle_bounds(pairs, pairs.values.shape[0], dtype))


def _kept(pairs: RitzPairs, angles: Float[Tensor, " a"]) -> int:
    residual = (pairs.residuals[: angles.shape[0]] ** 2).cumsum(dim=0).sqrt()
    settled = (angles <= KEPT_ANGLE) & (residual <= KEPT_RESIDUAL * pairs.largest)
    return int(torch.cumprod(settled.int(), dim=0).sum())


def _keep(base: BaseFactors, run: BlockLanczos, pairs: RitzPairs, angles: Float[Tensor, " a"], room: int) -> None:
    count = min(_kept(pairs, angles), room)
    known = base.leading
    if count and (known is None or count > known.values.shape[0]):
        residual = float(torch.linalg.vector_norm(pairs.residuals[:count]))
        floor = known.floor if known is not None else 0.0
        vectors = run.ritz_vectors(pairs, count)
        base.learn_leading(LeadingFactors(vectors, pairs.values[:count], angles[:count], residual, floor))
