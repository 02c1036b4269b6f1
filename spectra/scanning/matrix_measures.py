"""All measures of one matrix: facts, groups, controls, and the record they end in."""

import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from spectra.engine.cache import FactorCache
from spectra.metrics.subspaces import phi_grid, similarity_map
from spectra.records import Grid, LeadingVector, MatrixMeasures, Measure
from spectra.scanning.facts import BaseFacts, PairFacts, judged
from spectra.scanning.matrix import KEPT_VALUES, base_factors, tuned_side
from spectra.scanning.measuring import MEASURING
from spectra.scanning.nulls.controls import Storage
from spectra.scanning.nulls.null_store import NullStore
from spectra.scanning.nulls.nulls import with_nulls
from spectra.scanning.survey_settings import SurveySettings
from spectra.scanning.window_bounds import window_bounds
from spectra.weights import MatrixPair
from spectra.weights.methods.changes import Replaced

# Leading directions in a grid.
GRID = 16


def measure_matrix(
    pair: MatrixPair, settings: SurveySettings, cache: FactorCache | None = None, store: NullStore | None = None
) -> MatrixMeasures:
    """All measures of one matrix.

    Args:
        pair: The matrix and its change.
        settings: The question.
        cache: Where factors of W0 are kept between scans.
        store: Where simulated controls are kept; None simulates anew.
    """
    seconds: dict[str, float] = {}
    clock = _Clock(seconds)
    facts = facts_of(pair, settings, cache)
    clock.took("intruders")
    measures: list[Measure] = []
    for group in settings.groups:
        if group in MEASURING:
            measures += MEASURING[group](facts)
            clock.took(group)
    if "nulls" in settings.groups:
        digest = pair.W0.digest() if cache is not None else None
        measures = list(with_nulls(measures, facts, storage_of(pair), digest, store or NullStore(keep=False)))
        clock.took("nulls")
    vectors, grids = tuple(_leading(facts)), tuple(_grids(facts))
    clock.took("alignment" if "alignment" in settings.groups else "intruders")
    return matrix_row(
        pair,
        facts,
        measures,
        vectors=vectors,
        grids=grids,
        base_values=_base_values(facts),
        tuned_values=_numbers(next(iter(facts.bounds.values())).S),
        update_values=_update_values(facts),
        seconds=seconds,
    )


def facts_of(pair: MatrixPair, settings: SurveySettings, cache: FactorCache | None = None) -> PairFacts:
    """The facts of one matrix; those that no verdict needs are found when they are asked for."""
    base = BaseFacts(base_factors(pair.W0, settings.scan, cache), settings)
    if base.is_small and {"base", "nulls"} & set(settings.groups):
        base.factors.full()  # every number is then exact, and cheaper than by iteration
    [facts] = judged(base, [tuned_side(pair, settings.scan)], [None])
    return facts


def matrix_row(pair: MatrixPair, facts: PairFacts, measures: Iterable[Measure], **details: Any) -> MatrixMeasures:
    """The measures of a matrix beside its name, its place and how it was tuned.

    Args:
        pair: The matrix and its change.
        facts: What was found out about it.
        measures: The numbers.
        **details: Further fields of the record.
    """
    lora = pair.lora
    return MatrixMeasures(
        name=str(pair.name),
        layer=pair.name.layer,
        role=pair.name.role,
        block=pair.name.block,
        shape=pair.shape,
        rank=None if lora is None else lora.rank,
        alpha=None if lora is None else lora.alpha,
        scaling=None if lora is None else lora.scaling,
        method=next(iter(facts.bounds.values())).method,
        measures=tuple(measures),
        **details,
    )


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
    wanted = "alignment" in settings.groups
    kept = facts.retention.tolist() if wanted else []
    sizes = facts.base.leading.S.tolist() if wanted else []
    for side, bounds in facts.bounds.items():
        scores = torch.stack(window_bounds(facts, side)).tolist() if "intruders" in settings.groups else None
        for j, verdict in enumerate(bounds.verdicts(settings.scan.epsilon, side)):
            yield LeadingVector(
                verdict=verdict,
                base_singular_value=sizes[j] if wanted else None,
                retention=kept[j] if wanted else None,
                windowed_lower=scores[0][j] if scores else None,
                windowed_upper=scores[1][j] if scores else None,
            )


def _grids(facts: PairFacts) -> Iterator[Grid]:
    """phi of delta_W against W0, and the similarity map of W0 and W_tuned, over the leading directions."""
    if "alignment" not in facts.base.settings.groups:
        return
    base, tuned, delta = facts.base.leading, facts.leading, facts.delta_svd
    for side in facts.sides:
        U0, U = (base.U, tuned.U) if side == "left" else (base.Vh.mH, tuned.Vh.mH)
        yield Grid("similarity", side, _rows(similarity_map(U0[:, :GRID], U[:, :GRID])))
        if delta is not None:
            D = delta.U if side == "left" else delta.Vh.mH
            yield Grid("phi", side, _rows(phi_grid(D[:, :GRID], U0[:, :GRID])))


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
    if facts.base.factors.has_full():
        return _numbers(facts.base.factors.full().S)
    if "base" in facts.base.settings.groups and facts.base.spectrum.is_exact:
        return _numbers(facts.base.spectrum.values)
    known = facts.base.factors.leading
    return () if known is None else _numbers(known.values.clamp_min(0).sqrt())


def _update_values(facts: PairFacts) -> tuple[float, ...]:
    """Singular values of delta_W: all of a low-rank update, the leading ones of a dense one if they were computed."""
    dense = facts.tuned.update is None
    if dense and not {"update", "alignment"} & set(facts.base.settings.groups):
        return ()
    return () if facts.delta_svd is None else _numbers(facts.delta_svd.S[:KEPT_VALUES] if dense else facts.delta_svd.S)


def _numbers(values: torch.Tensor) -> tuple[float, ...]:
    return tuple(values.double().tolist())


def _rows(grid: torch.Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in grid.double().tolist())
