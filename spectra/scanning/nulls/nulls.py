"""The metrics of the controls beside those of the matrix: one null line per measured value and control."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.engine.bounds import LEADING, CosineBounds
from spectra.engine.methods import AUTO
from spectra.engine.tuned import Tuned, leading_vectors_of
from spectra.linalg.density import Spectrum
from spectra.linalg.operators import LowRankUpdate, RowChunked
from spectra.linalg.triplets import LeadingVectors
from spectra.records.catalogue import GROUPS
from spectra.records.counts import random_direction_cosine
from spectra.records.matrix_scan import ControlVerdicts, record
from spectra.records.measures import Measure, NullLine
from spectra.records.verdicts import OneSide, VectorVerdict
from spectra.scanning.facts import BaseFacts, PairFacts, judged, method_of, triplets, vectors_of
from spectra.scanning.measuring import spectral_ranks
from spectra.scanning.nulls.controls import DIRECTION, GAUSSIAN, LOW_RANK, ROUNDING, Control, Storage, made
from spectra.scanning.nulls.null_store import NullStore
from spectra.scanning.window_bounds import known_cosines

# Smaller side of the Gaussian matrices whose ranks are simulated.
SIMULATED = 512
# (control, metric, side or "") and the values of its draws.
Values = list[tuple[str, str, str, list[float]]]


def with_nulls(
    measures: Sequence[Measure], facts: PairFacts, storage: Storage, digest: str | None, store: NullStore
) -> tuple[tuple[Measure, ...], tuple[ControlVerdicts, ...]]:
    """The same measures, each with the lines that its controls give, and the verdicts on the controls.

    Args:
        measures: What was measured of the matrix.
        facts: The matrix.
        storage: How the checkpoint is stored.
        digest: Hash of W0's content; with it, the simulations are kept for the next scan.
        store: Where.

    Returns:
        The measures, and one entry per control and draw where verdicts on controls are kept. A zero update has no
        controls, a streamed W0 no dense ones.
    """
    settings = facts.base.settings
    groups = [group for group in settings.groups if GROUPS[group].has_controls] if "nulls" in settings.groups else []
    if not (groups or settings.keep_controls) or facts.delta_frobenius <= 0:
        return tuple(measures), ()
    values, verdicts = Values(), []
    for null in (LOW_RANK,) if isinstance(facts.base.W0, RowChunked) else (LOW_RANK, ROUNDING, GAUSSIAN):
        found = _recalled(null, facts, groups, storage, digest, store)
        values += [(null, metric, side, draws) for metric, side, draws in found["values"]]
        verdicts += [ControlVerdicts(null, tuple(record(VectorVerdict, one) for one in v)) for v in found["vectors"]]
    lines: dict[tuple[str, str], list[NullLine]] = {}
    for null, metric, side, draws in [*values, *_of_shape(facts, groups, store), *_closed(facts, groups)]:
        line = NullLine(null, sum(draws) / len(draws), min(draws), max(draws), 0 if null == DIRECTION else len(draws))
        lines.setdefault((metric, side), []).append(line)
    return tuple(replace(m, nulls=tuple(lines.get((m.metric, m.side or ""), ()))) for m in measures), tuple(verdicts)


def _recalled(
    null: str, facts: PairFacts, groups: Sequence[str], storage: Storage, digest: str | None, store: NullStore
) -> dict[str, Any]:
    """What one control shows, from the store or simulated: measures by metric and side, and verdicts by draw."""
    settings = facts.base.settings
    size, rank = facts.delta_frobenius, control_rank(facts)
    # A trial of a sweep, whose controls are kept in its own tables, shares with the others what rounding does to W0.
    # What a plugin measures may change with its code, of which no store knows.
    plugged = any(not GROUPS.is_own(group) for group in groups)
    if digest is None or plugged or (settings.keep_controls and null != ROUNDING):
        return _simulated(null, facts, groups, storage, rank, size)
    # Everything that decides the simulated values. What rounding does to W0 does not depend on the update.
    question = {
        "of": digest,
        "control": null,
        "groups": list(groups),
        "vectors": settings.keep_controls,
        "scan": [settings.k, settings.epsilon, settings.side, settings.dtype],
        "seed": settings.seed,
    }
    question |= {"storage": str(storage)} if null == ROUNDING else {"frobenius": f"{size:.6e}", "draws": settings.draws}
    question |= {"rank": rank} if null == LOW_RANK else {}
    return dict(store.recall(question, lambda: _simulated(null, facts, groups, storage, rank, size)))


def _simulated(
    null: str, facts: PairFacts, groups: Sequence[str], storage: Storage, rank: int, size: float
) -> dict[str, Any]:
    """Every draw of a control measured as the matrix itself was, as JSON holds it."""
    base, settings = facts.base, facts.base.settings
    found: dict[tuple[str, str], list[float]] = {}
    vectors = []
    side = settings.sides[0]
    for controls in made(
        null, base.W0, storage, rank=rank, frobenius=size, draws=settings.draws, seed=settings.seed
    ):  # fmt: skip
        for control in _judged(base, controls):
            for measure in (measure.finite() for group in groups for measure in GROUPS[group].measured(control)):
                if measure.value is not None:
                    found.setdefault((measure.metric, measure.side or ""), []).append(measure.value)
            if settings.keep_controls:
                vectors.append([vars(one) for one in control.bounds[side].verdicts(settings.epsilon, side)])
    return {"values": [(*key, values) for key, values in found.items()], "vectors": vectors}


def _judged(base: BaseFacts, controls: Sequence[Control]) -> Iterator[PairFacts]:
    """The facts of controls: as exact as those of the matrix where that is cheap, else from known vectors alone."""
    tuned, noise = [control.tuned for control in controls], [control.noise for control in controls]
    yield from (_approximated if _may_approximate(base, len(controls)) else judged)(base, tuned, noise)


def _may_approximate(base: BaseFacts, versions: int) -> bool:
    """True where the matrix is so large that proofs cost, and enough of its leading vectors are known to do without."""
    known = base.factors.leading
    automatic = base.settings.method in (AUTO, "certified")
    return (
        automatic
        and method_of(base.factors, replace(base.settings, method=AUTO), versions) == "certified"
        and known is not None
        and known.values.shape[0] >= base.k
    )


def _approximated(base: BaseFacts, tuned: Sequence[Tuned], noise: Sequence[float | None]) -> list[PairFacts]:
    """The facts of controls, their largest cosines taken over the known leading base vectors alone.

    A leading vector of a control is made of leading base vectors and of new directions, so that the largest cosine
    lies among the known ones; that it does is not proven here. A control whose leading vectors did not settle is left
    out.

    Cost: one Krylov run for both sides, no certificate and no factorisation.
    """
    warm = None if base.factors.leading is None else base.factors.leading.vectors
    found = leading_vectors_of(base.W0, tuned, base.k, warm=warm)
    return [
        PairFacts(base, each, _known_bounds(base, each, vectors), size)
        for each, vectors, size in zip(tuned, found, noise, strict=True)
        if vectors.converged
    ]


def _known_bounds(base: BaseFacts, tuned: Tuned, vectors: LeadingVectors) -> dict[OneSide, CosineBounds]:
    """The leading vectors of one control as bounds of the sides asked for."""
    svd = triplets(tuned.operator(base.W0), vectors.U, "left", vectors.S)
    return {side: _bounds(base, vectors_of(svd, side), vectors, side) for side in base.settings.sides}


def _bounds(base: BaseFacts, Y: Float[Tensor, "d k"], vectors: LeadingVectors, side: OneSide) -> CosineBounds:
    cosines, _ = known_cosines(base, Y, side)
    largest = cosines.abs().max(dim=0).values.clamp(max=1.0)
    decided = (LEADING,) * largest.shape[0]
    return CosineBounds(vectors.S, largest, largest, vectors.ill_conditioned, decided, "leading", lambda: Y)


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
