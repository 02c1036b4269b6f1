"""Intruder dimensions of the original and of what was written, matrix by matrix."""

from dataclasses import replace

from spectra.engine.cache import FactorCache
from spectra.records.selection import Selection
from spectra.records.surgery import Reduction
from spectra.scanning.scan import Progress, scan_pairs
from spectra.scanning.settings import ScanSettings
from spectra.weights import CheckpointPair, open_pair


def counted(
    result: Reduction,
    before: CheckpointPair,
    settings: ScanSettings,
    selection: Selection,
    *,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
) -> Reduction:
    """The record with the counts of both sides; a matrix without factors is W0 again, and has no intruder.

    Args:
        result: What was written.
        before: The original beside its base.
        settings: The question.
        selection: How the original and its base were opened.
        cache: Where factors of W0 are kept between scans.
        progress: Called with (matrices done, all, name).
    """
    names = {matrix.name for matrix in result.matrices if matrix.rank}
    kept = replace(before, matrices=tuple(matrix for matrix in before.matrices if str(matrix.name) in names))
    of_base = Selection(include=".", base_revision=selection.base_revision, allow_pickle=selection.allow_pickle)
    written = open_pair(before.base, result.out, of_base)
    written = replace(written, matrices=tuple(matrix for matrix in written.matrices if str(matrix.name) in names))
    first, second = scan_pairs([kept, written], settings, cache=cache, progress=progress)
    counts = [{matrix.name: matrix.count for matrix in scan.matrices} for scan in (first, second)]
    matrices = tuple(
        replace(matrix, count_before=counts[0][matrix.name], count_after=counts[1][matrix.name])
        if matrix.rank
        else replace(matrix, count_before=0, count_after=0)
        for matrix in result.matrices
    )
    return replace(result, matrices=matrices)
