"""`spectra.compare`: several checkpoints of one base side by side, and the overlap of their updates."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from spectra.engine.cache import FactorCache
from spectra.errors import CheckpointError, SpectrumError, first_five
from spectra.linalg.svd import SVD
from spectra.metrics.random_overlap import expected_overlap, random_overlaps
from spectra.metrics.ranks import default_rcond
from spectra.metrics.subspaces import phi
from spectra.records.comparison import Comparison, Overlap
from spectra.records.provenance import versions
from spectra.records.scan import Scan
from spectra.records.selection import DEFAULT, Selection
from spectra.records.verdicts import OneSide, Side
from spectra.scanning.facts import PairFacts, vectors_of
from spectra.scanning.journal import Journal, Place
from spectra.scanning.scan import Notice, PartialScan, Progress, identity, tell
from spectra.scanning.settings import Arithmetic, Method, ScanSettings
from spectra.storage.json_file import read_object
from spectra.weights import CheckpointPair, open_pair
from spectra.weights.fingerprint import fingerprint, same_base
from spectra.weights.formats.checkpoint import open_checkpoint
from spectra.weights.formats.hub import locate
from spectra.weights.matching.catalogue import catalogue
from spectra.weights.methods.adapter import CONFIG, find_adapter
from spectra.weights.streams.opened import opened_once

GROUPS = ("intruders", "update")
SIDES: tuple[OneSide, OneSide] = ("left", "right")


def compare(
    checkpoints: Sequence[str | Path],
    base: str | Path | None = None,
    *,
    selection: Selection = DEFAULT,
    top: int = 8,
    draws: int = 99,
    seed: int = 0,
    k: int = 10,
    epsilon: float = 0.5,
    side: Side = "left",
    method: Method = "auto",
    dtype: Arithmetic = "float32",
    device: str = "cpu",
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    notice: Notice | None = None,
) -> Comparison:
    """Counts, norms and ranks of several checkpoints of one base, and which updates point the same way.

    Args:
        checkpoints: At least two adapter folders or full checkpoints.
        base: The pre-trained checkpoint; by default the one that the adapters name.
        selection: Which matrices, and how the files are opened.
        top: Leading singular directions of each update to compare; a LoRA update of smaller rank gives all it has.
        draws: Simulated pairs of random subspaces behind each null; "above chance" means above all of them.
        seed: Seed of the simulation.
        k: Leading vectors per matrix for the intruder counts.
        epsilon: Cosine below which a vector counts.
        side: Of the intruder counts; overlaps are given for both sides.
        method: "auto", "certified", "exact" or "cached-basis".
        dtype: "float32" or "float64" arithmetic.
        device: torch device of the computation.
        cache: Where factors of W0 are kept between calls; with it, an interrupted comparison goes on where it was.
        progress: Called with (matrices done, all, name) after each.
        notice: Called with a sentence on what will be read from distant files, before it is.

    Raises:
        SpectrumError: If fewer than two checkpoints are given, or a setting has no meaning.
        CheckpointError: If a checkpoint cannot be read, two of them have different bases, or no matrix is selected.

    Example:
        >>> result = spectra.compare([adapter, full], base, k=4, draws=9)
        >>> len(result.to_dataframe("checkpoints")), len(result.to_dataframe("pairs"))
        (2, 2)
    """
    if len(checkpoints) < 2:
        raise SpectrumError(f"{len(checkpoints)} checkpoint was given, and comparing takes two. Name another one.")
    if top < 1 or draws < 1:
        raise SpectrumError(f"top is {top} and draws is {draws}, but both are at least 1. Use for instance 8 and 99.")
    settings = ScanSettings(
        k=k, epsilon=epsilon, side=side, method=method, dtype=dtype, device=device, groups=GROUPS, seed=seed
    )
    selection = selection.streaming
    with opened_once():
        pairs = [open_pair(base, checkpoint, selection) for checkpoint in checkpoints]
        tell(pairs, notice)
        require_same_base(pairs, checkpoints, selection)
        groups = by_name(pairs)
        for name, places in groups.items():
            require_one_base(name, pairs, places)

        def overlaps(places: Sequence[Place], facts: Sequence[PairFacts]) -> list[dict[str, Any]]:
            return [asdict(overlap) for overlap in _overlaps(pairs, places, facts, top, draws, seed)]

        journal = Journal(pairs, settings, question={"top": top, "draws": draws}) if cache is not None else None
        partial = PartialScan(pairs, settings, cache, journal, list(groups.values()), overlaps)
        partial.run(progress)
        found = [Overlap(**{**row, "dimensions": tuple(row["dimensions"])}) for row in partial.beside]
        scans = tuple(partial.scans())
        order = {name: place for place, name in enumerate(groups)}
        found.sort(key=lambda overlap: order[overlap.name])  # stable: rows of a matrix stay in their order
        return Comparison(scans, tuple(found), top, draws, seed, tuple(_warnings(scans, groups)), versions())


def require_same_base(pairs: Sequence[CheckpointPair], checkpoints: Sequence[str | Path], selection: Selection) -> None:
    """Refuse checkpoints of bases that differ by what they are, whatever they are called and share.

    Raises:
        CheckpointError: If they do.
    """
    bases = list(dict.fromkeys(pair.base for pair in pairs if pair.base is not None))
    if len(bases) < 2:
        return
    known = []
    for base in bases:
        revision = _revision(base, pairs, checkpoints, selection)
        path = locate(base, revision, role="base", stream=bool(selection.stream))
        known.append(fingerprint(catalogue(open_checkpoint(path, allow_pickle=selection.allow_pickle))))
    for base, found in zip(bases[1:], known[1:], strict=True):
        if not same_base(known[0], found):
            raise CheckpointError(
                f"The checkpoints were tuned from different bases: the weights of '{bases[0]}' and '{base}' differ. "
                "Compare checkpoints of one base, or name it with --base."
            )


def _revision(
    base: str, pairs: Sequence[CheckpointPair], checkpoints: Sequence[str | Path], selection: Selection
) -> str | None:
    """The revision of a base: the one that was asked for, or the one that its adapter names."""
    if selection.base_revision is not None:
        return selection.base_revision
    named = next(checkpoint for checkpoint, pair in zip(checkpoints, pairs, strict=True) if pair.base == base)
    found = find_adapter(
        locate(named, selection.revision, stream=bool(selection.stream)), selection.adapter_name
    ).adapter
    if found is None or not (found / CONFIG).is_file():
        return None
    revision = read_object(found / CONFIG).get("revision")
    return revision if isinstance(revision, str) and revision else None


def by_name(pairs: Sequence[CheckpointPair]) -> dict[str, list[Place]]:
    """Places (checkpoint, matrix) of every matrix, in the order of first appearance."""
    groups: dict[str, list[Place]] = {}
    for i, pair in enumerate(pairs):
        for j, matrix in enumerate(pair.matrices):
            groups.setdefault(str(matrix.name), []).append((i, j))
    return groups


def require_one_base(name: str, pairs: Sequence[CheckpointPair], places: Sequence[Place]) -> None:
    """Make sure that several tuned versions of one matrix have one W0: the same one, or copies of it.

    Raises:
        CheckpointError: If they were tuned from different matrices.
    """
    tuned = [pairs[i].matrices[j] for i, j in places]
    if len({identity(matrix) for matrix in tuned}) > 1 and len({(m.shape, m.W0.digest(read=True)) for m in tuned}) > 1:
        raise CheckpointError(
            f"The checkpoints were tuned from different bases: their W0 of '{name}' differ. Compare checkpoints of one "
            "base, or name it with --base."
        )


def _overlaps(
    pairs: Sequence[CheckpointPair],
    places: Sequence[Place],
    facts: Sequence[PairFacts],
    top: int,
    draws: int,
    seed: int,
) -> Iterator[Overlap]:
    """phi of every two updates of one matrix, on both sides; an update of zero has no directions."""
    leading = [_directions(each, top) for each in facts]
    name = pairs[places[0][0]].matrices[places[0][1]].name
    for a, b in combinations(range(len(places)), 2):
        one, other = leading[a], leading[b]
        if one is None or other is None:
            continue
        for side in SIDES:
            U1, U2 = vectors_of(one, side), vectors_of(other, side)
            d, i, j = U1.shape[0], U1.shape[1], U2.shape[1]
            yield Overlap(
                first=places[a][0],
                second=places[b][0],
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


def _warnings(scans: Sequence[Scan], groups: dict[str, list[Place]]) -> Iterator[str]:
    """What a reader of the numbers has to know."""
    yield from dict.fromkeys(warning for scan in scans for warning in scan.warnings)
    partial = [name for name, places in groups.items() if len(places) < len(scans)]
    if partial:
        yield (
            f"{len(partial)} matrices are not changed by every checkpoint ({first_five(partial)}): overlaps are given "
            "where both changed one, sums over matrices cover different matrices."
        )
