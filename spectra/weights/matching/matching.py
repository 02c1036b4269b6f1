"""From matched matrices to a pair: take fused ones apart, name all, keep what is selected, say why the rest is not."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from spectra.errors import CheckpointError
from spectra.records.verdicts import Skipped
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.catalogue import Catalogue, natural_order
from spectra.weights.matching.fused import parts_of
from spectra.weights.matching.names import canonical_names
from spectra.weights.matching.selection import Selection
from spectra.weights.methods.changes import Change, Replaced, RowsOf
from spectra.weights.pair import MatrixPair


@dataclass(frozen=True, eq=False)
class Match:
    """A matrix of the base and its change.

    Attributes:
        module: The base's name for it.
        W0: The pre-trained matrix.
        change: What tuning did to it.
    """

    module: str
    W0: StoredMatrix
    change: Change


def assemble(
    book: Catalogue,
    matches: Sequence[Match],
    chosen: Selection,
    *,
    untouched: str,
    known: Mapping[str, str] | None = None,
) -> tuple[tuple[MatrixPair, ...], tuple[Skipped, ...]]:
    """Select and name the matches, and account for every matrix of the base that is not compared.

    Args:
        book: The base.
        matches: What the checkpoint changes.
        chosen: The selection; with `split_fused`, fused matrices are taken apart first.
        untouched: Why a matrix without a match is not compared.
        known: Better reasons, by module, for some of them.

    Raises:
        CheckpointError: If a selected matrix does not hold floating-point numbers.
    """
    if chosen.split_fused:
        matches = [part for match in matches for part in _split(match, book.checkpoint.config)]
    by_module = {match.module: match for match in matches}
    covered = {key for match in matches for key in _keys(match.W0)}
    rest = [
        module
        for module, matrix in book.matrices.items()
        if module not in by_module and not covered.issuperset(_keys(matrix))
    ]
    modules = sorted([*by_module, *rest], key=natural_order)
    names = canonical_names(modules)
    matrices, skipped = [], []
    for module in modules:
        reason = chosen.reason_to_skip(names[module], has_blocks=book.has_blocks)
        match = by_module.get(module)
        if reason is None and match is not None:
            for matrix in (match.W0, match.change.W_tuned) if isinstance(match.change, Replaced) else (match.W0,):
                _require_floating(matrix, names[module].canonical)
            matrices.append(MatrixPair(names[module], match.W0, match.change))
        else:
            skipped.append(Skipped(names[module].canonical, (known or {}).get(module) or reason or untouched))
    return tuple(matrices), tuple(skipped)


def _keys(matrix: StoredMatrix) -> Iterator[tuple[str, int | None]]:
    """The tensors, and experts of them, that a matrix is made of."""
    for block in matrix.blocks:
        yield block.tensor.name, block.expert


def _split(match: Match, config: Mapping[str, Any]) -> Iterator[Match]:
    """The parts of a fused matrix, or the matrix itself when it is not fused."""
    parts = parts_of(match.module, match.W0.shape[0], config)
    if parts is None:
        yield match
        return
    for part, ranges in parts.items():
        yield Match(f"{match.module}.{part}", match.W0.take(ranges), RowsOf(match.change, match.W0, ranges))


def _require_floating(matrix: StoredMatrix, name: str) -> None:
    if not matrix.dtype.is_floating_point:
        raise CheckpointError(
            f"'{name}' ({matrix.source}) holds {matrix.dtype} values, not weights. "
            "Give a checkpoint that is not quantised, or leave it out with --exclude."
        )
