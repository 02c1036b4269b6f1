"""One scan of checkpoints, which can be looked at before it is done and goes on where it was."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, cast

from spectra.engine.cache import FactorCache
from spectra.errors import CheckpointError, first_five
from spectra.linalg.precision import full_precision
from spectra.records import GROUPS, MatrixScan, Scan
from spectra.records.interrupted import Interrupted
from spectra.records.provenance import versions
from spectra.records.selection import DEFAULT, Selection
from spectra.records.verdicts import Side
from spectra.scanning.facts import PairFacts, base_factors, method_of
from spectra.scanning.journal import Finished, Journal, Place
from spectra.scanning.matrix import scan_matrices
from spectra.scanning.nulls.null_store import NullStore
from spectra.scanning.settings import ScanSettings
from spectra.scanning.side_by_side import LARGEST_ENTRIES, side_by_side
from spectra.weights import CheckpointPair, MatrixPair, open_pair
from spectra.weights.streams.held import HELD, read_ahead_bytes
from spectra.weights.streams.opened import opened_once
from spectra.weights.streams.plan import ReadAhead, StreamPlan

Progress = Callable[[int, int, str], None]
Notice = Callable[[str], None]
Groups = Sequence[Sequence[Place]]
Beside = Callable[[Sequence[Place], Sequence[PairFacts]], Sequence[Mapping[str, Any]]]
# Who scans groups of matrices that share their W0, in any order.
ScanGroups = Callable[[Groups], Iterable[Finished]]
# How the checkpoints, their base and what is selected become a scan elsewhere: `cluster.SpreadScan`.
Spread = Callable[[Sequence[str], str | None, Selection, ScanSettings, bool], ScanGroups]


def scan_checkpoints(
    checkpoints: Sequence[str | Path],
    base: str | Path | None,
    settings: ScanSettings,
    *,
    selection: Selection = DEFAULT,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    spread: Spread | None = None,
    notice: Notice | None = None,
) -> list[Scan]:
    """Open checkpoints beside their base and scan them; those that share a base matrix share every pass over it.

    Args:
        checkpoints: Adapter folders or full checkpoints.
        base: Their pre-trained checkpoint; by default the one that each names.
        settings: The question.
        selection: Which matrices, and how the files are opened.
        cache: Where factors of W0 and simulations are kept between scans; with it, an interrupted scan goes on where it
            was.
        progress: Called with (matrices done, all, name) after each base matrix.
        spread: Who scans in place of this process, such as a `cluster.SpreadScan`.
        notice: Called with a sentence on what will be read from distant files, before it is.

    Returns:
        One scan per checkpoint, in order.

    Raises:
        Interrupted: On Ctrl-C, with what is done.
        CheckpointError, AdapterError: If a checkpoint cannot be read or does not fit its base, or nothing is selected.
    """
    selection = selection.streaming
    with opened_once():
        pairs = [open_pair(base, checkpoint, selection) for checkpoint in checkpoints]
        tell(pairs, notice)
        elsewhere = None
        if spread is not None:
            names = [str(checkpoint) for checkpoint in checkpoints]
            elsewhere = spread(names, None if base is None else str(base), selection, settings, cache is not None)
        return scan_pairs(pairs, settings, cache=cache, progress=progress, elsewhere=elsewhere)


def scan_pairs(
    pairs: Sequence[CheckpointPair],
    settings: ScanSettings,
    *,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    elsewhere: ScanGroups | None = None,
) -> list[Scan]:
    """Scan opened checkpoints, as `scan_checkpoints` does."""
    # What a plugin measures may change with its code: what an earlier call measured by it is measured again.
    keeps = cache is not None and all(GROUPS.is_own(group) for group in settings.groups)
    journal = Journal(pairs, settings) if keeps else None
    partial = PartialScan(pairs, settings, cache, journal)
    try:
        partial.run(progress, elsewhere)
    except KeyboardInterrupt as interrupt:
        raise Interrupted(partial.scans(), resumes=journal is not None) from interrupt
    return partial.scans()


def tell(pairs: Sequence[CheckpointPair], notice: Notice | None) -> None:
    """Say what will be read from distant files."""
    plan = StreamPlan.of(pairs)
    if notice is not None and plan.reads:
        notice(plan.sentence)


@full_precision()
def prepare(pair: CheckpointPair, settings: ScanSettings, cache: FactorCache) -> None:
    """Factorise now what scans of this base with these settings would factorise at their first call.

    Raises:
        CheckpointError: If there is nothing to scan.
    """
    _require_matrices([pair])
    for matrix in pair.matrices:
        factors = base_factors(matrix.W0, settings, cache)
        if factors.is_stored and method_of(factors, settings, 1) == "cached-basis":
            factors.full()


@dataclass(eq=False)
class PartialScan:
    """A scan that can be looked at before it is done: after Ctrl-C, `scans()` holds what was finished.

    Attributes:
        pairs: The checkpoints.
        settings: The question.
        cache: Where factors of W0 and simulations are kept between scans.
        journal: Where finished matrices are kept until the scan is complete; None keeps nothing.
        groups: Places (checkpoint, matrix) that share their W0, together.
        look: Asked for rows about the matrices of a group together, which are kept in `beside`.
        found: What is finished, by place.
        beside: What `look` gave, in any order of the groups.
    """

    pairs: Sequence[CheckpointPair]
    settings: ScanSettings
    cache: FactorCache | None = None
    journal: Journal | None = None
    groups: Groups = ()
    look: Beside | None = None
    found: dict[Place, MatrixScan] = field(default_factory=dict, init=False)
    beside: list[Mapping[str, Any]] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Refuse a checkpoint of which nothing would be scanned.

        Raises:
            CheckpointError: With the checkpoint.
        """
        _require_matrices(self.pairs)
        self.groups = self.groups or _by_base_matrix(self.pairs)
        self.plan = StreamPlan.of(self.pairs)
        self._elsewhere = Counter[str]()
        self._store = NullStore(keep=self.cache is not None and self.settings.wants_controls)

    @full_precision()
    def run(self, progress: Progress | None = None, elsewhere: ScanGroups | None = None) -> None:
        """Scan what is not in the journal, one base matrix at a time.

        Args:
            progress: Called with (matrices done, all, name) after each base matrix.
            elsewhere: Who scans; None means this process, in the order of the checkpoint.
        """
        for finished in self.journal.read() if self.journal is not None else ():
            self._take(finished)
        if self.found:
            self._tell(progress, max(self.found))
        missing = [places for places in self.groups if not all(place in self.found for place in places)]
        for finished in (elsewhere or self.scan_groups)(missing):
            self._take(finished)
            if self.journal is not None:
                self.journal.add(finished)
            self._tell(progress, finished.places[0])
        if self.journal is not None:
            self.journal.close()

    def scan_groups(self, groups: Groups) -> Iterator[Finished]:
        """Scan groups of matrices in this process; the matrices of a group share their W0."""
        alone = self.look is not None or not self.settings.is_thread_safe
        matrices = [[self.pairs[i].matrices[j] for i, j in places] for places in groups]
        ahead = ReadAhead(matrices if self.plan.reads else [[]] * len(groups))

        @full_precision()
        def scan_group(group: int) -> Finished:
            ahead.begin(group)
            try:
                found, facts = scan_matrices(matrices[group], self.settings, self.cache, self._store)
                beside = self.look(groups[group], facts) if self.look is not None else ()
                return Finished(groups[group], found, beside)
            finally:
                ahead.end(group)

        with HELD.within(read_ahead_bytes(self.settings.memory_bytes)):
            yield from side_by_side(
                scan_group, range(len(groups)), lambda group: not alone and self._is_small(groups[group])
            )

    def _is_small(self, places: Sequence[Place]) -> bool:
        i, j = places[0]
        return prod(self.pairs[i].matrices[j].shape) * len(places) <= LARGEST_ENTRIES

    def scans(self) -> list[Scan]:
        """One scan per pair with the matrices that are done, in checkpoint order."""
        return [self._scan(i, pair) for i, pair in enumerate(self.pairs)]

    def _streamed(self) -> dict[str, int] | None:
        """What was read of distant files, here and elsewhere."""
        if not self.plan.reads:
            return None
        return {name: count + self._elsewhere[name] for name, count in self.plan.to_dict().items()}

    def _take(self, finished: Finished) -> None:
        if all(place in self.found for place in finished.places):
            return  # a journal that two processes wrote at once has it twice
        if finished.version not in ((), self.plan.version):
            raise CheckpointError(
                "A node of the cluster read another version of a distant checkpoint than this process opened. Fix the "
                "revisions with --revision and --base-revision, and run again."
            )
        self._elsewhere.update(finished.arrived)
        self.found.update(zip(finished.places, finished.matrices, strict=True))
        self.beside += finished.beside

    def _tell(self, progress: Progress | None, place: Place) -> None:
        if progress is not None:
            i, j = place
            total = sum(len(pair.matrices) for pair in self.pairs)
            progress(len(self.found), total, str(self.pairs[i].matrices[j].name))

    def _scan(self, i: int, pair: CheckpointPair) -> Scan:
        done = tuple(self.found[i, j] for j in range(len(pair.matrices)) if (i, j) in self.found)
        asked = self.settings
        return Scan(
            checkpoint=pair.checkpoint,
            base=pair.base or "",  # None only when opened to be inspected
            groups=asked.groups,
            k=asked.k,
            epsilon=asked.epsilon,
            side=cast(Side, asked.side),  # checked by ScanSettings
            seed=asked.seed,
            matrices=done,
            skipped=pair.skipped,
            warnings=(*pair.warnings, *_warnings(done, len(pair.matrices))),
            versions=versions(),
            kind=pair.method,
            coverage=pair.coverage,
            method=asked.method,
            epsilons=asked.all_epsilons,
            streamed=self._streamed(),
        )


def _require_matrices(pairs: Sequence[CheckpointPair]) -> None:
    empty = [f"'{pair.checkpoint}'" for pair in pairs if not pair.matrices]
    if empty:
        which = f"the {len(pairs)} checkpoints" if len(empty) == len(pairs) > 1 else first_five(empty)
        raise CheckpointError(
            f"No matrix of {which} is left to compare. Widen the selection; `spectra inspect` says why each was left "
            "out."
        )


def _warnings(done: Sequence[MatrixScan], of: int) -> Iterator[str]:
    """What a reader of the numbers has to know."""
    if len(done) < of:
        yield f"Interrupted: {len(done)} of {of} matrices are scanned."
    if ill := sum(vector.ill_conditioned for matrix in done for vector in matrix.vectors):
        yield (
            f"{ill} vectors are ill-conditioned: a neighbouring singular value is equal to rounding, "
            "so the single vector, and its verdict, is arbitrary."
        )
    if estimated := sum(any(measure.how == "estimate" for measure in matrix.measures) for matrix in done):
        yield (
            f"{estimated} matrices are large: ranks, edge and spikes that need their whole spectrum are estimates "
            "with a standard error (`how`, `error`). Ask for --exact to compute every singular value."
        )


def _by_base_matrix(pairs: Sequence[CheckpointPair]) -> list[list[Place]]:
    """Places grouped by their W0, in the order of first appearance."""
    groups: dict[object, list[Place]] = {}
    for i, pair in enumerate(pairs):
        for j, matrix in enumerate(pair.matrices):
            groups.setdefault(identity(matrix), []).append((i, j))
    return list(groups.values())


def identity(matrix: MatrixPair) -> object:
    """Where the W0 lies and how it is read: equal for two checkpoints exactly when they share it."""
    W0 = matrix.W0
    return W0.dtype, tuple(
        (str(b.tensor.path), b.tensor.name, b.tensor.shape, b.start, b.stop, b.step, b.expert, b.transposed)
        for b in W0.blocks
    )
