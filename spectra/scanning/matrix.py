"""All that a scan finds out about the matrices that share one W0: verdicts, measures, controls, and the record."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from spectra.engine.cache import FactorCache
from spectra.engine.storage import reads_of
from spectra.errors import SpectrumError
from spectra.metrics.subspaces import phi_grid, similarity_map
from spectra.records.catalogue import GROUPS, VERDICTS_ALONE
from spectra.records.matrix_scan import ControlVerdicts, LeadingVector, MatrixScan
from spectra.records.measures import Grid, Measure
from spectra.scanning.facts import EXACT_UP_TO, BaseFacts, PairFacts, cosine_bounds, facts_of, vectors_of
from spectra.scanning.nulls.controls import Storage
from spectra.scanning.nulls.null_store import NullStore
from spectra.scanning.nulls.nulls import with_nulls
from spectra.scanning.settings import ScanSettings
from spectra.scanning.window_bounds import window_bounds
from spectra.weights import MatrixPair
from spectra.weights.methods.changes import Replaced

# Leading directions in a grid.
GRID = 16
# Leading singular values of a dense update in a record, and of each spectrum in a picture.
KEPT_VALUES = 64
# Beyond this size the factorisations behind a picture are too slow to be worth it.
LARGEST_PICTURED = 2 * EXACT_UP_TO


def scan_matrices(
    pairs: Sequence[MatrixPair], settings: ScanSettings, cache: FactorCache | None, store: NullStore
) -> tuple[list[MatrixScan], list[PairFacts]]:
    """Scan several tuned versions of one W0; they share every pass over it.

    Args:
        pairs: Pairs that share their W0 (the first one's is read).
        settings: The question.
        cache: Where factors of W0 are kept between scans; None keeps them for this call only.
        store: Where simulated controls are kept.

    Returns:
        One record per pair, in order, and what stands behind it. The time of the verdicts is shared evenly.
    """
    started = time.perf_counter()
    facts = facts_of(pairs, settings, cache)
    shared = (time.perf_counter() - started) / len(pairs)
    keeps = settings.wants_controls and facts[0].base.factors.is_stored
    digest = pairs[0].W0.digest() if keeps else None
    return [_scanned(pair, each, shared, digest, store) for pair, each in zip(pairs, facts, strict=True)], facts


def _scanned(pair: MatrixPair, facts: PairFacts, verdicts: float, digest: str | None, store: NullStore) -> MatrixScan:
    settings = facts.base.settings
    clock = _Clock({"intruders": verdicts})
    measures: list[Measure] = []
    for group in settings.groups:
        if GROUPS[group].measure is not None:
            measures += GROUPS[group].measured(facts)
            clock.took(group)
    nulled: tuple[Measure, ...] = tuple(measures)
    controls: tuple[ControlVerdicts, ...] = ()
    if settings.wants_controls:
        nulled, controls = with_nulls(measures, facts, storage_of(pair), digest, store)
        clock.took("nulls")
    vectors, grids = tuple(_leading(facts)), tuple(_grids(facts))
    if not all(math.isfinite(size) for one in vectors for size in (one.singular_value, one.lower, one.upper)):
        raise SpectrumError(
            f"The leading vectors of '{pair.name}' have no finite singular values and cosines in {settings.dtype}. "
            "Scan with --dtype float64, or leave the matrix out with --exclude."
        )
    base_values, tuned_values = _base_values(facts), _numbers(next(iter(facts.bounds.values())).S)
    is_pictured = settings.pictures(str(pair.name)) and min(pair.shape) <= LARGEST_PICTURED
    if is_pictured:
        picture, base_values, tuned_values = _picture(facts)
        grids = (*(grid for grid in grids if grid.name != "similarity"), picture)
    clock.took("alignment" if "alignment" in settings.groups else "intruders")
    lora = pair.lora
    return MatrixScan(
        name=str(pair.name),
        layer=pair.name.layer,
        role=pair.name.role,
        block=pair.name.block,
        shape=pair.shape,
        rank=None if lora is None else lora.rank,
        alpha=None if lora is None else lora.alpha,
        scaling=None if lora is None else lora.scaling,
        method=next(iter(facts.bounds.values())).method,
        measures=tuple(measure.finite() for measure in nulled),
        vectors=vectors,
        grids=grids,
        base_values=base_values,
        tuned_values=tuned_values,
        update_values=_update_values(facts, dense=is_pictured),
        seconds=clock.seconds,
        base_frobenius=facts.base.frobenius if any(m.metric == "update.relative" for m in measures) else None,
        controls=controls,
        reads=_reads(facts),
    )


def _reads(facts: PairFacts) -> dict[str, float] | None:
    """How often the files of matrices beyond the memory budget were read."""
    found = {"W0": reads_of(facts.base.W0), "W_tuned": reads_of(facts.tuned.W)}
    return {side: round(reads, 3) for side, reads in found.items() if reads is not None} or None


class _Clock:
    """Where the time goes: work that several groups share counts for the one that asked first."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.last = time.perf_counter()

    def took(self, group: str) -> None:
        """Book the time since the last call."""
        now = time.perf_counter()
        self.seconds[group] = self.seconds.get(group, 0.0) + now - self.last
        self.last = now


def _leading(facts: PairFacts) -> Iterator[LeadingVector]:
    """One entry per leading vector and side."""
    settings = facts.base.settings
    aligned = "alignment" in settings.groups
    kept = facts.retention.tolist() if aligned else []
    sizes = facts.base.leading.S.tolist() if aligned else []
    for side, bounds in facts.bounds.items():
        scores = torch.stack(window_bounds(facts, side)).tolist() if "intruders" in settings.groups else None
        for j, verdict in enumerate(bounds.verdicts(settings.epsilon, side)):
            beside: dict[str, float | None] = {}
            if aligned:
                beside |= {"base_singular_value": sizes[j], "retention": kept[j]}
            if scores is not None:
                beside |= {"windowed_lower": scores[0][j], "windowed_upper": scores[1][j]}
            yield LeadingVector.of(verdict, **beside)


def _grids(facts: PairFacts) -> Iterator[Grid]:
    """phi of delta_W against W0, and the similarity map of W0 and W_tuned, over the leading directions."""
    if "alignment" not in facts.base.settings.groups:
        return
    delta = facts.delta_svd
    for side in facts.sides:
        U0, U = vectors_of(facts.base.leading, side), vectors_of(facts.leading, side)
        yield Grid("similarity", side, _rows(similarity_map(U0[:, :GRID], U[:, :GRID])))
        if delta is not None:
            yield Grid("phi", side, _rows(phi_grid(vectors_of(delta, side)[:, :GRID], U0[:, :GRID])))


def _picture(facts: PairFacts) -> tuple[Grid, tuple[float, ...], tuple[float, ...]]:
    """|cos| between leading base and tuned vectors, and the leading singular values of both.

    Cost: one factorisation of W0, ever; in its basis the vectors of an adapter cost O(n rank) a step.
    """
    settings, full = facts.base.settings, facts.base.factors.full()
    side = settings.sides[0]
    deep = replace(settings, k=max(KEPT_VALUES, settings.map_size), method="cached-basis", expected=1)
    [bounds] = cosine_bounds(BaseFacts(facts.base.factors, deep), [facts.tuned], side)
    cosines = vectors_of(full, side).mH @ bounds.U() if bounds.cosines is None else bounds.cosines
    shown = cosines[: settings.map_size, : settings.map_size].abs().clamp(max=1.0)
    return Grid("similarity", side, _rows(shown)), _numbers(full.S[:KEPT_VALUES]), _numbers(bounds.S[:KEPT_VALUES])


def storage_of(pair: MatrixPair) -> Storage:
    """The dtype of the base where the tuned side is an adapter, the coarser of the two where both are stored whole."""
    dtypes = [pair.W0.dtype]
    if isinstance(pair.change, Replaced):
        dtypes.append(pair.change.W_tuned.dtype)
    floating = [dtype for dtype in dtypes if dtype.is_floating_point]
    coarser = max(floating, key=lambda dtype: torch.finfo(dtype).eps, default=torch.float32)
    return Storage(coarser, on_grid=pair.W0.dtype == coarser)


def _base_values(facts: PairFacts) -> tuple[float, ...]:
    """Leading singular values of W0; all of them where they were computed anyway."""
    settings = facts.base.settings
    if not set(settings.groups) - {*VERDICTS_ALONE, "nulls"}:
        return ()
    if facts.base.factors.has_full():
        return _numbers(facts.base.factors.full().S)
    if "base" in settings.groups and facts.base.spectrum.is_exact:
        return _numbers(facts.base.spectrum.values)
    known = facts.base.factors.leading
    return () if known is None else _numbers(known.values.clamp_min(0).sqrt())


def _update_values(facts: PairFacts, *, dense: bool) -> tuple[float, ...]:
    """Singular values of delta_W: all of a low-rank update, the leading ones of a dense one if they were computed."""
    settings = facts.base.settings
    if facts.tuned.update is not None:
        return _numbers(facts.delta_values)
    if ("norms" in settings.groups and settings.dense_norms) or dense:
        return _numbers(facts.delta_values[:KEPT_VALUES])
    if not {"update", "alignment"} & set(settings.groups) or facts.delta_svd is None:
        return ()
    return _numbers(facts.delta_svd.S[:KEPT_VALUES])


def _numbers(values: Tensor) -> tuple[float, ...]:
    return tuple(values.double().tolist())


def _rows(grid: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in grid.double().tolist())
