"""From matched matrices to a pair: take fused ones apart, name all, keep what is selected, say why the rest is not."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from spectra.errors import CheckpointError, first_five
from spectra.records.coverage import Coverage
from spectra.records.selection import Selection
from spectra.records.verdicts import Skipped
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.catalogue import Catalogue, natural_order
from spectra.weights.matching.fused import is_fused, parts_of
from spectra.weights.matching.names import canonical_names
from spectra.weights.matching.selection import is_inside, reason_to_skip, require_known
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


@dataclass(frozen=True, eq=False)
class Assembly:
    """The matrices of a comparison, and what became of the rest.

    Attributes:
        matrices: What is compared.
        skipped: What is not, and why.
        coverage: The same in numbers, for the matrices of the blocks.
        whole: Fused matrices that were to be taken apart and stay whole.
    """

    matrices: tuple[MatrixPair, ...]
    skipped: tuple[Skipped, ...]
    coverage: Coverage
    whole: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """Fused matrices that stay whole, in one sentence."""
        if not self.whole:
            return ()
        return (
            f"--split-fused leaves {len(self.whole)} fused matrices whole, because their layout is not known from the "
            f"configuration: {first_five(self.whole)}.",
        )


def assemble(
    book: Catalogue,
    matches: Sequence[Match],
    chosen: Selection,
    *,
    untouched: str,
    known: Mapping[str, str] | None = None,
    absent: bool = False,
) -> Assembly:
    """Select and name the matches, and account for every matrix of the base that is not compared.

    Args:
        book: The base.
        matches: What the checkpoint changes.
        chosen: The selection; with `split_fused`, fused matrices are taken apart first.
        untouched: Why a matrix without a match is not compared.
        known: Better reasons, by module, for some of them.
        absent: True where a matrix without a match is missing, and not merely unchanged.

    Raises:
        CheckpointError: If a selected matrix does not hold floating-point numbers, or a role or a layer that is
            asked for does not exist.
    """
    whole: list[str] = []
    if chosen.split_fused:
        matches = [part for match in matches for part in _split(match, book, whole)]
    by_module = {match.module: match for match in matches}
    covered = {key for match in matches for key in keys_of(match.W0)}
    rest = [
        module
        for module, matrix in book.matrices.items()
        if module not in by_module and not covered.issuperset(keys_of(matrix))
    ]
    modules = sorted([*by_module, *rest], key=natural_order)
    names = canonical_names([*modules, *book.unread])
    require_known(chosen, list(names.values()))
    has_blocks = book.has_blocks
    matrices, skipped = [], []
    count = Counter[str]()
    for module in modules:
        name = names[module]
        reason = reason_to_skip(chosen, name, has_blocks=has_blocks, set_aside=book.set_aside.get(module))
        inside = is_inside(name, has_blocks=has_blocks) and module not in book.set_aside
        match = by_module.get(module)
        if reason is None and match is not None:
            for matrix in (match.W0, match.change.W_tuned) if isinstance(match.change, Replaced) else (match.W0,):
                _require_floating(matrix, name.canonical)
            matrices.append(MatrixPair(name, match.W0, match.change))
            count["compared" if inside else "outside"] += 1
        else:
            skipped.append(Skipped(name.canonical, (known or {}).get(module) or reason or untouched))
            if inside:
                count["unselected" if reason else "missing_in_checkpoint" if absent else "unchanged"] += 1
    skipped += [Skipped(names[module].canonical, reason) for module, reason in book.unread.items()]
    unknown = sum(is_inside(names[module], has_blocks=has_blocks) for module in book.unknown)
    total = sum(count.values()) - count["outside"]
    return Assembly(tuple(matrices), tuple(skipped), Coverage(matrices=total, unknown=unknown, **count), tuple(whole))


def keys_of(matrix: StoredMatrix) -> Iterator[tuple[str, int | None]]:
    """The tensors, and experts of them, that a matrix is made of."""
    for block in matrix.blocks:
        yield block.tensor.name, block.expert


def _split(match: Match, book: Catalogue, whole: list[str]) -> Iterator[Match]:
    """The parts of a fused matrix, or the matrix itself when it is not fused; `whole` takes the ones left uncut."""
    alternating = book.alternating(match.module) if match.module in book.matrices else False
    parts = parts_of(match.module, match.W0.shape, book.checkpoint.config, alternating=alternating)
    if parts is None:
        if is_fused(match.module):
            whole.append(match.module)
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
