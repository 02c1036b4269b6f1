"""The measures of the controls beside those of the matrix: one null line per measure and control."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch

from spectra.linalg.density import Spectrum
from spectra.linalg.operators import LowRankUpdate, RowChunked
from spectra.records import Measure, NullLine
from spectra.records.counts import random_direction_cosine
from spectra.scanning.facts import BaseFacts, PairFacts, judged
from spectra.scanning.measuring import CONTROLLED, MEASURING, spectral_ranks
from spectra.scanning.nulls.controls import DIRECTION, GAUSSIAN, Control, Storage, dense_controls, low_rank_controls
from spectra.scanning.nulls.known_cosines import can_be_glimpsed, glimpsed
from spectra.scanning.nulls.null_store import NullStore

# Smaller side of the Gaussian matrices whose ranks are simulated.
SIMULATED = 512
# (control, metric, side or "") and the values of its draws.
Values = list[tuple[str, str, str, list[float]]]


def with_nulls(
    measures: Sequence[Measure], facts: PairFacts, storage: Storage, digest: str | None, store: NullStore
) -> tuple[Measure, ...]:
    """The same measures, each with the lines that its controls give.

    Args:
        measures: What was measured of the matrix.
        facts: The matrix.
        storage: How the checkpoint is stored.
        digest: Hash of W0's content; with it, the simulations are kept for the next scan.
        store: Where.
    """
    settings = facts.base.settings
    groups = [group for group in settings.groups if group in CONTROLLED]
    if not groups or facts.delta_frobenius <= 0:
        return tuple(measures)
    if digest is None:
        values = _simulated(facts, groups, storage)
    else:
        question = _question(facts, groups, storage, digest)
        values = store.recall(question, lambda: _simulated(facts, groups, storage))
    lines: dict[tuple[str, str], list[NullLine]] = {}
    for null, metric, side, draws in [*values, *_of_shape(facts, groups, store), *_closed(facts, groups)]:
        line = NullLine(null, sum(draws) / len(draws), min(draws), max(draws), 0 if null == DIRECTION else len(draws))
        lines.setdefault((metric, side), []).append(line)
    return tuple(replace(m, nulls=tuple(lines.get((m.metric, m.side or ""), ()))) for m in measures)


def _simulated(facts: PairFacts, groups: Sequence[str], storage: Storage) -> Values:
    """Every control measured as the matrix itself was."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for null, control in judged_controls(facts, storage):
        for measure in (measure for group in groups for measure in MEASURING[group](control)):
            if measure.value is not None:
                found.setdefault((null, measure.metric, measure.side or ""), []).append(measure.value)
    return [(*key, values) for key, values in found.items()]


def judged_controls(facts: PairFacts, storage: Storage) -> Iterator[tuple[str, PairFacts]]:
    """The facts of every control by its name: low-rank ones share the passes over W0, dense ones come one by one.

    A streamed W0 has no dense ones.
    """
    base, settings = facts.base, facts.base.settings
    like = facts.leading.U
    size, rank = facts.delta_frobenius, control_rank(facts)
    low = low_rank_controls(base.W0.shape, rank, size, draws=settings.draws, seed=settings.seed, like=like)
    yield from _judged(base, low)
    if not isinstance(base.W0, RowChunked):
        dense = dense_controls(base.W0.dense(), size, storage, draws=settings.draws, seed=settings.seed)
        for control in dense:
            yield from _judged(base, [control])


def _judged(base: BaseFacts, controls: list[Control]) -> Iterator[tuple[str, PairFacts]]:
    """The facts of controls: as exact as those of the matrix where that is cheap, else from known vectors alone."""
    tuned, noise = [control.tuned for control in controls], [control.noise for control in controls]
    glimpse = can_be_glimpsed(base, len(controls))
    for control, facts in zip(controls, (glimpsed if glimpse else judged)(base, tuned, noise), strict=True):
        if facts is not None:
            yield control.null, facts


def control_rank(facts: PairFacts) -> int:
    """Rank of the random low-rank control: the update's own, or k for a dense update."""
    return facts.delta.rank if isinstance(facts.delta, LowRankUpdate) else facts.base.k


def _of_shape(facts: PairFacts, groups: Sequence[str], store: NullStore) -> Values:
    """Ranks of a dense Gaussian matrix, scaled to the update's norm: they depend on the shape alone."""
    if "update" not in groups:
        return []
    base = facts.base
    shape, settings = base.W0.shape, base.settings
    question = {"of": "gaussian", "shape": list(shape), "seed": settings.seed, "draws": settings.draws}
    known = store.recall(question, lambda: _gaussian_ranks(base))
    size = facts.delta_frobenius
    found = known | {"update.spectral": [size * value for value in known["update.spectral"]]}
    if (largest := float(base.leading.S[0])) > 0:
        found["update.relative_spectral"] = [value / largest for value in found["update.spectral"]]
    return [(GAUSSIAN, metric, "", values) for metric, values in found.items()]


def _gaussian_ranks(base: BaseFacts) -> dict[str, list[float]]:
    """Measures of Gaussian matrices of one shape and unit Frobenius norm, by metric and draw.

    Every rank of Gaussian noise grows with the matrix at a fixed ratio of its sides, so a large shape is simulated
    smaller and scaled up: at 512 and more the largest singular value is within 1 % of its limit.
    """
    found: dict[str, list[float]] = {}
    settings = base.settings
    scale = max(1.0, min(base.W0.shape) / SIMULATED)
    shape = tuple(round(side / scale) for side in base.W0.shape)
    for draw in range(settings.draws):
        generator = torch.Generator().manual_seed(settings.seed + draw)
        S = torch.linalg.svdvals(torch.randn(shape, generator=generator)).double()
        size, largest = float(torch.linalg.vector_norm(S)), float(S[0])
        found.setdefault("update.spectral", []).append(largest / size / scale**0.5)
        found.setdefault("update.stable_rank", []).append(scale * (size / largest) ** 2)
        for measure in spectral_ranks("update", Spectrum.known(S), base):
            found.setdefault(measure.metric, []).append(scale * (measure.value or 0.0))
    return found


def _closed(facts: PairFacts, groups: Sequence[str]) -> Values:
    """What a random direction shows, by formula."""
    if "intruders" not in groups:
        return []
    d_out, d_in = facts.base.W0.shape
    dimensions = {"left": d_out, "right": d_in}
    return [
        (DIRECTION, "intruders.least_cosine", side, [random_direction_cosine(dimensions[side], min(d_out, d_in))])
        for side in facts.sides
    ]


def _question(facts: PairFacts, groups: Sequence[str], storage: Storage, digest: str) -> dict[str, Any]:
    """Everything that decides the simulated values."""
    settings = facts.base.settings
    return {
        "of": digest,
        "groups": list(groups),
        "storage": str(storage),
        "rank": control_rank(facts),
        "frobenius": f"{facts.delta_frobenius:.6e}",
        "scan": [settings.scan.k, settings.scan.epsilon, settings.scan.side, settings.scan.dtype],
        "seed": settings.seed,
        "draws": settings.draws,
    }
