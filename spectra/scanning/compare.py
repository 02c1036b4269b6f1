"""`spectra.compare`: several checkpoints of one base side by side, and the overlap of their updates."""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, combinations
from pathlib import Path
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor

from spectra.engine.cache import FactorCache
from spectra.errors import CheckpointError, SpectrumError, first_five
from spectra.linalg.svd import SVD
from spectra.metrics.random_overlap import expected_overlap, random_overlaps
from spectra.metrics.ranks import default_rcond
from spectra.metrics.subspaces import phi
from spectra.records.comparison import Comparison, Overlap
from spectra.records.intruder_scan import OneSide, Side
from spectra.records.measures import MatrixMeasures
from spectra.records.provenance import versions
from spectra.records.spectral_scan import SpectralScan
from spectra.scanning.facts import BaseFacts, PairFacts, judged
from spectra.scanning.matrix import base_factors, tuned_side
from spectra.scanning.matrix_measures import matrix_row
from spectra.scanning.measuring import MEASURING
from spectra.scanning.settings import ScanSettings
from spectra.scanning.survey_settings import SurveySettings
from spectra.weights import CheckpointPair, MatrixPair, open_pair

Progress = Callable[[int, int, str], None]
GROUPS = ("intruders", "update")
SIDES: tuple[OneSide, OneSide] = ("left", "right")


def compare(
    checkpoints: Sequence[str | Path],
    base: str | Path | None = None,
    *,
    top: int = 8,
    draws: int = 99,
    seed: int = 0,
    k: int = 10,
    epsilon: float = 0.5,
    side: str = "left",
    method: str = "auto",
    dtype: str = "float32",
    device: str = "cpu",
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    **selection: Any,
) -> Comparison:
    """Counts, norms and ranks of several checkpoints of one base, and which updates point the same way.

    Args:
        checkpoints: At least two adapter folders or full checkpoints.
        base: The pre-trained checkpoint; by default the one that the adapters name.
        top: Leading singular directions of each update to compare; a LoRA update of smaller rank gives all it has.
        draws: Simulated pairs of random subspaces behind each null; "above chance" means above all of them.
        seed: Of the simulation.
        k: Leading vectors per matrix for the intruder counts.
        epsilon: Cosine below which a vector counts.
        side: Of the intruder counts; overlaps are given for both sides.
        method: "auto", "certified", "exact" or "cached-basis".
        dtype: "float32" or "float64" arithmetic.
        device: torch device of the computation.
        cache: Where factors of W0 are kept between calls.
        progress: Called with (matrices done, all, name) after each.
        **selection: `include`, `exclude`, `roles`, `layers`, ... of `open_pair`.

    Raises:
        SpectrumError: If fewer than two checkpoints are given, or a setting has no meaning.
        CheckpointError: If a checkpoint cannot be read, two of them have different bases, or no matrix is selected.
    """
    if len(checkpoints) < 2:
        raise SpectrumError(f"{len(checkpoints)} checkpoint was given, and comparing takes two. Name another one.")
    if top < 1 or draws < 1:
        raise SpectrumError(f"top is {top} and draws is {draws}, but both are at least 1. Use for instance 8 and 99.")
    scan = ScanSettings(k=k, epsilon=epsilon, side=side, method=method, dtype=dtype, device=device)
    settings = SurveySettings(scan, GROUPS, seed)
    pairs = [open_pair(base, checkpoint, **selection) for checkpoint in checkpoints]
    measured: list[list[MatrixMeasures]] = [[] for _ in pairs]
    overlaps: list[Overlap] = []
    groups = _by_name(pairs)
    if not groups:
        raise CheckpointError(
            f"No matrix of the {len(checkpoints)} checkpoints is left to compare. Widen the selection; "
            "`spectra inspect` says why each was left out."
        )
    for done, (name, places) in enumerate(groups.items(), start=1):
        tuned = [pairs[i].matrices[j] for i, j in places]
        facts = _facts(name, tuned, settings, cache)
        for (i, j), each in zip(places, facts, strict=True):
            numbers = chain.from_iterable(MEASURING[group](each) for group in GROUPS)
            measured[i].append(matrix_row(pairs[i].matrices[j], each, numbers))
        overlaps += _overlaps([i for i, _ in places], tuned, facts, top, draws, seed)
        if progress is not None:
            progress(done, len(groups), name)
    scans = tuple(_scan(pair, mine, settings) for pair, mine in zip(pairs, measured, strict=True))
    return Comparison(scans, tuple(overlaps), top, draws, seed, tuple(_warnings(scans, groups)), versions())


def _by_name(pairs: Sequence[CheckpointPair]) -> dict[str, list[tuple[int, int]]]:
    """Places (checkpoint, matrix) of every matrix, in the order of first appearance."""
    groups: dict[str, list[tuple[int, int]]] = {}
    for i, pair in enumerate(pairs):
        for j, matrix in enumerate(pair.matrices):
            groups.setdefault(str(matrix.name), []).append((i, j))
    return groups


def _facts(
    name: str, tuned: Sequence[MatrixPair], settings: SurveySettings, cache: FactorCache | None
) -> list[PairFacts]:
    """What is known of every tuned version of one W0, after making sure that it is one.

    Raises:
        CheckpointError: If the versions were tuned from different matrices.
    """
    if len({(pair.shape, pair.W0.digest()) for pair in tuned}) > 1:
        raise CheckpointError(
            f"The checkpoints were tuned from different bases: their W0 of '{name}' differ. Compare checkpoints of one "
            "base, or name it with --base."
        )
    base = BaseFacts(base_factors(tuned[0].W0, settings.scan, cache), settings)
    return judged(base, [tuned_side(pair, settings.scan) for pair in tuned], [None] * len(tuned))


def _overlaps(
    places: Sequence[int], tuned: Sequence[MatrixPair], facts: Sequence[PairFacts], top: int, draws: int, seed: int
) -> Iterator[Overlap]:
    """phi of every two updates of one matrix, on both sides; an update of zero has no directions."""
    leading = [_directions(each, top) for each in facts]
    for a, b in combinations(range(len(places)), 2):
        one, other = leading[a], leading[b]
        if one is None or other is None:
            continue
        name = tuned[a].name
        for side in SIDES:
            U1, U2 = _vectors(one, side), _vectors(other, side)
            d, i, j = U1.shape[0], U1.shape[1], U2.shape[1]
            yield Overlap(
                first=places[a],
                second=places[b],
                name=str(name),
                layer=name.layer,
                role=name.role,
                side=side,
                dimensions=(i, j),
                phi=phi(U1, U2),
                expected=expected_overlap(d, i, j),
                most=random_overlaps(d, i, j, draws, seed)[-1],
            )


def _directions(facts: PairFacts, top: int) -> SVD | None:
    """The leading triplets of an update that are not rounding; None for no update, or one whose values lie too close.

    A full update's k leading triplets are at hand; a larger `top` is met where the whole factorisation is.
    """
    svd = facts.delta_svd
    if svd is None or not svd.S.shape[0] or float(svd.S[0]) <= 0:
        return None
    rank = int((default_rcond(facts.base.W0.shape, svd.S.dtype) * svd.S[0] < svd.S).sum())
    return svd.leading(min(top, rank))


def _vectors(svd: SVD, side: OneSide) -> Float[Tensor, "d n"]:
    return svd.U if side == "left" else svd.Vh.mH


def _scan(pair: CheckpointPair, measured: list[MatrixMeasures], settings: SurveySettings) -> SpectralScan:
    order = {str(matrix.name): place for place, matrix in enumerate(pair.matrices)}
    return SpectralScan(
        checkpoint=pair.checkpoint,
        base=pair.base or "",  # None only when opened to be inspected
        groups=GROUPS,
        k=settings.scan.k,
        epsilon=settings.scan.epsilon,
        side=cast(Side, settings.scan.side),  # checked by ScanSettings
        seed=settings.seed,
        matrices=tuple(sorted(measured, key=lambda matrix: order[matrix.name])),
        skipped=pair.skipped,
        warnings=pair.warnings,
        versions=versions(),
        kind=pair.method,
        coverage=pair.coverage,
    )


def _warnings(scans: Sequence[SpectralScan], groups: dict[str, list[tuple[int, int]]]) -> Iterator[str]:
    """What a reader of the numbers has to know."""
    yield from dict.fromkeys(warning for scan in scans for warning in scan.warnings)
    partial = [name for name, places in groups.items() if len(places) < len(scans)]
    if partial:
        yield (
            f"{len(partial)} matrices are not changed by every checkpoint ({first_five(partial)}): overlaps are given "
            "where both changed one, sums over matrices cover different matrices."
        )
