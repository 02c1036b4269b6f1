"""`spectra.intruders`: the scan of one checkpoint, or of many that share a base."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from spectra.engine.cache import FactorCache
from spectra.records.intruder_scan import IntruderScan, MatrixSpectrum, Side
from spectra.records.provenance import versions
from spectra.scanning.journal import Journal, Place
from spectra.scanning.matrix import scan_matrix
from spectra.scanning.settings import ScanSettings
from spectra.weights import CheckpointPair, MatrixPair, open_pair

Progress = Callable[[int, int, str], None]
Groups = Sequence[Sequence[Place]]
ScanAll = Callable[[Groups], Iterable[tuple[Sequence[Place], Sequence[MatrixSpectrum]]]]


def intruders(
    checkpoint: str | Path,
    base: str | Path | None = None,
    *,
    k: int = 10,
    epsilon: float = 0.5,
    epsilons: Sequence[float] = (),
    side: str = "left",
    method: str = "auto",
    dtype: str = "float32",
    device: str = "cpu",
    memory_bytes: int | None = None,
    dense_norms: bool = False,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    **selection: Any,
) -> IntruderScan:
    """Count the intruder dimensions of a fine-tuned checkpoint.

    Args:
        checkpoint: A peft adapter folder or a full checkpoint (folder, file or hub id).
        base: The pre-trained checkpoint; by default the one that the adapter names.
        k: Leading singular vectors looked at per matrix.
        epsilon: Cosine below which a vector counts.
        epsilons: Further thresholds decided by the same scan.
        side: "left" (the paper), "right" or "both".
        method: "auto", "certified", "exact" or "cached-basis"; all give the same verdicts.
        dtype: "float32" or "float64" arithmetic.
        device: torch device of the computation.
        memory_bytes: Budget; matrices beyond it are read block by block.
        dense_norms: Also norms and effective rank of a dense delta_W (costs a factorisation each).
        cache: Where factors of W0 are kept between scans; None keeps nothing.
        progress: Called with (matrices done, all, name) after each.
        **selection: `include`, `exclude`, `roles`, `layers`, ... of `open_pair`.

    Returns:
        One record per matrix and vector.

    Raises:
        CheckpointError, AdapterError: If a checkpoint cannot be read or does not fit its base.
        SpectrumError: If a setting has no meaning.

    Source: Shuttleworth et al., arXiv:2410.21228, Definition 3.1 and Algorithm 1.
    """
    settings = ScanSettings(
        k=k,
        epsilon=epsilon,
        epsilons=tuple(epsilons),
        side=side,
        method=method,
        dtype=dtype,
        device=device,
        memory_bytes=memory_bytes,
        dense_norms=dense_norms,
    )
    pair = open_pair(base, checkpoint, **selection)
    return scan_pairs([pair], settings, cache=cache, progress=progress)[0]


def scan_pairs(
    pairs: Sequence[CheckpointPair],
    settings: ScanSettings,
    *,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
) -> list[IntruderScan]:
    """Scan several checkpoints; those that share a base matrix share every pass over it.

    Returns:
        One scan per pair, in order.
    """
    partial = PartialScan(pairs, settings, cache)
    partial.run(progress)
    return partial.scans()


@dataclass(eq=False)
class PartialScan:
    """A scan that can be looked at before it is done: after Ctrl-C, `scans()` holds what was finished.

    Attributes:
        pairs: The checkpoints.
        settings: The question.
        cache: Where factors of W0 are kept between scans.
        journal: Where finished matrices are kept until the scan is complete; None keeps nothing.
        found: What is finished, by (pair, matrix).
    """

    pairs: Sequence[CheckpointPair]
    settings: ScanSettings
    cache: FactorCache | None = None
    journal: Journal | None = None
    found: dict[tuple[int, int], MatrixSpectrum] = field(default_factory=dict, init=False)

    def run(self, progress: Progress | None = None, scan_all: ScanAll | None = None) -> None:
        """Scan what is not in the journal, one base matrix at a time.

        Args:
            progress: Called with (matrices done, all, name) after each base matrix.
            scan_all: Who scans, in any order; None means this process, in the order of the checkpoint.
        """
        if self.journal is not None:
            self.found.update(self.journal.read())
        missing = [[place for place in places if place not in self.found] for places in _by_base_matrix(self.pairs)]
        if self.found:
            self._tell(progress, max(self.found))
        for places, spectra in (scan_all or self.scan_all)([places for places in missing if places]):
            self._take(places, spectra)
            self._tell(progress, places[0])
        if self.journal is not None:
            self.journal.close()

    def scan_all(self, groups: Groups) -> Iterator[tuple[Sequence[Place], list[MatrixSpectrum]]]:
        """Scan groups of matrices in this process; the matrices of a group share their W0."""
        for places in groups:
            yield places, scan_matrix([self.pairs[i].matrices[j] for i, j in places], self.settings, self.cache)

    def _tell(self, progress: Progress | None, place: Place) -> None:
        if progress is not None:
            i, j = place
            total = sum(len(pair.matrices) for pair in self.pairs)
            progress(len(self.found), total, str(self.pairs[i].matrices[j].name))

    def _take(self, places: Sequence[tuple[int, int]], spectra: Sequence[MatrixSpectrum]) -> None:
        for place, spectrum in zip(places, spectra, strict=True):
            self.found[place] = spectrum
            if self.journal is not None:
                self.journal.add(place, spectrum)

    def scans(self) -> list[IntruderScan]:
        """One scan per pair with the matrices that are done, in checkpoint order."""
        return [self._scan(i, pair) for i, pair in enumerate(self.pairs)]

    def _scan(self, i: int, pair: CheckpointPair) -> IntruderScan:
        done = [self.found[i, j] for j in range(len(pair.matrices)) if (i, j) in self.found]
        warnings = list(pair.warnings)
        if len(done) < len(pair.matrices):
            warnings.append(f"Interrupted: {len(done)} of {len(pair.matrices)} matrices are scanned.")
        if ill := sum(vector.ill_conditioned for matrix in done for vector in matrix.vectors):
            warnings.append(
                f"{ill} vectors are ill-conditioned: a neighbouring singular value is equal to rounding, "
                "so the single vector, and its verdict, is arbitrary."
            )
        return IntruderScan(
            checkpoint=pair.checkpoint,
            base=pair.base or "",  # None only when opened to be inspected
            k=self.settings.k,
            epsilon=self.settings.epsilon,
            side=cast(Side, self.settings.side),  # checked by ScanSettings
            method=self.settings.method,
            matrices=tuple(done),
            skipped=pair.skipped,
            warnings=tuple(warnings),
            epsilons=self.settings.all_epsilons,
            versions=versions(),
            kind=pair.method,
            coverage=pair.coverage,
        )


def _by_base_matrix(pairs: Sequence[CheckpointPair]) -> list[list[tuple[int, int]]]:
    """Places (pair, matrix) grouped by their W0, in the order of first appearance."""
    groups: dict[object, list[tuple[int, int]]] = {}
    for i, pair in enumerate(pairs):
        for j, matrix in enumerate(pair.matrices):
            groups.setdefault(_identity(matrix), []).append((i, j))
    return list(groups.values())


def _identity(matrix: MatrixPair) -> object:
    """Where the W0 lies and how it is read: equal for two checkpoints exactly when they share it."""
    W0 = matrix.W0
    return W0.dtype, tuple(
        (str(b.tensor.path), b.tensor.name, b.tensor.shape, b.start, b.stop, b.step, b.expert, b.transposed)
        for b in W0.blocks
    )
