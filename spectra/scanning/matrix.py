"""All verdicts on one base matrix: the tuned matrices of every checkpoint that shares it, in one call."""

import time
from collections.abc import Sequence

import torch

from spectra.engine.bounds import CosineBounds
from spectra.engine.cache import FactorCache
from spectra.engine.factors import BaseFactors, TransposedFactors
from spectra.engine.methods import AUTO, METHODS, choose
from spectra.engine.norms import dense_values, frobenius, low_rank_values, norms
from spectra.engine.storage import as_operator
from spectra.engine.tuned import Tuned, adjoint
from spectra.linalg.operators import Dense, LinearOperator
from spectra.records.intruder_scan import MatrixSpectrum, UpdateNorms, VectorVerdict
from spectra.scanning.settings import ScanSettings
from spectra.weights import MatrixPair, StoredMatrix
from spectra.weights.methods.changes import Replaced

# A fully tuned matrix beyond this size is streamed, so that a scan holds one large matrix and not two.
TUNED_BYTES = 512 << 20
# Leading singular values of a dense update in a record; a low-rank update has all of its own there.
KEPT_VALUES = 64


def scan_matrix(
    matrices: Sequence[MatrixPair], settings: ScanSettings, cache: FactorCache | None
) -> list[MatrixSpectrum]:
    """The verdicts on several tuned versions of one W0.

    Args:
        matrices: Pairs that share their W0 (the first one's is read).
        settings: The question.
        cache: Where factors of W0 are kept between scans; None keeps them for this call only.

    Returns:
        One record per pair, in order. `seconds` is the shared time divided by their number.
    """
    started = time.perf_counter()
    base = base_factors(matrices[0].W0, settings, cache)
    W0 = base.W0
    tuned = [tuned_side(pair, settings) for pair in matrices]
    verdicts: list[tuple[VectorVerdict, ...]] = [() for _ in matrices]
    methods = [""] * len(matrices)
    if settings.side in ("left", "both"):
        for i, bounds in enumerate(cosine_bounds(base, tuned, settings)):
            verdicts[i] += bounds.verdicts(settings.epsilon, "left")
            methods[i] = bounds.method
    if settings.side in ("right", "both"):
        turned = TransposedFactors(adjoint(W0), inner=base)
        for i, bounds in enumerate(cosine_bounds(turned, [each.transposed() for each in tuned], settings)):
            verdicts[i] += bounds.verdicts(settings.epsilon, "right")
            methods[i] = bounds.method
    updates = _updates(W0, tuned, settings)
    seconds = (time.perf_counter() - started) / len(matrices)
    return [
        MatrixSpectrum(
            name=str(pair.name),
            layer=pair.name.layer,
            role=pair.name.role,
            block=pair.name.block,
            shape=pair.shape,
            method=method,
            vectors=vectors,
            seconds=seconds,
            update=update,
            update_values=values,
        )
        for pair, method, vectors, (update, values) in zip(matrices, methods, verdicts, updates, strict=True)
    ]


def base_factors(stored: StoredMatrix, settings: ScanSettings, cache: FactorCache | None) -> BaseFactors:
    """One W0 as an operator, with what the cache knows of it."""
    W0 = as_operator(stored, dtype=settings.torch_dtype, device=settings.device, memory_bytes=settings.memory_bytes)
    return BaseFactors(W0, cache.entry(stored.digest(), W0) if cache is not None else None)


def tuned_side(pair: MatrixPair, settings: ScanSettings) -> Tuned:
    """The tuned side as factors where there are factors, else as a matrix of its own, streamed if it is large."""
    update = pair.update(settings.torch_dtype, settings.device)
    if update is not None:
        return Tuned(update=update)
    if isinstance(pair.change, Replaced):
        budget = settings.memory_bytes if settings.memory_bytes is not None else TUNED_BYTES
        stored = pair.change.W_tuned
        return Tuned(W=as_operator(stored, dtype=settings.torch_dtype, device=settings.device, memory_bytes=budget))
    return Tuned(W=Dense(pair.W_tuned(settings.torch_dtype, settings.device)))


def cosine_bounds(base: BaseFactors, tuned: Sequence[Tuned], settings: ScanSettings) -> list[CosineBounds]:
    name = choose(base, len(tuned), settings.k) if settings.method == AUTO else settings.method
    k = min(settings.k, *base.W0.shape)
    if name != "exact" and choose(base, len(tuned), k) == "exact":
        name = "exact"  # too small for a Krylov space; the verdicts are the same
    epsilons = torch.tensor(settings.all_epsilons, dtype=torch.float64, device=settings.device)
    return METHODS[name](base, tuned, k, epsilons)


def _updates(
    W0: LinearOperator, tuned: Sequence[Tuned], settings: ScanSettings
) -> list[tuple[UpdateNorms | None, tuple[float, ...]]]:
    """Norms and leading singular values of every update; none of a dense one unless they were asked for."""
    size = frobenius(W0)
    results: list[tuple[UpdateNorms | None, tuple[float, ...]]] = []
    for each in tuned:
        if each.update is not None:
            S = low_rank_values(each.update)
            results.append((norms(S, size), tuple(S.tolist())))
        elif settings.dense_norms and each.W is not None:
            S = dense_values(each.W.dense() - W0.dense())
            results.append((norms(S, size), tuple(S[:KEPT_VALUES].tolist())))
        else:
            results.append((None, ()))
    return results
