"""A fully fine-tuned checkpoint beside its base."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch

from spectra.errors import CheckpointError, first_five
from spectra.records.coverage import Coverage
from spectra.records.selection import Selection
from spectra.records.verdicts import Skipped
from spectra.weights.bases import unrelated_warnings
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.alignment import FUSED, HALVES, Alignment, halves_of
from spectra.weights.matching.catalogue import Catalogue
from spectra.weights.matching.matching import Match, assemble, keys_of
from spectra.weights.matching.names import before_blocks, canonical_names, layer_of
from spectra.weights.matching.selection import is_inside
from spectra.weights.methods.changes import Replaced
from spectra.weights.methods.mutated import OnMutatedBase
from spectra.weights.pair import CheckpointPair


def open_full_pair(
    base: str,
    tuned: str,
    book: Catalogue,
    other: Catalogue,
    chosen: Selection,
    factors: Sequence[Match] = (),
) -> CheckpointPair:
    """Match two full checkpoints, whatever prefixes and heads either has.

    Args:
        base: The base as the user named it.
        tuned: The tuned checkpoint as the user named it.
        book: The base.
        other: The tuned checkpoint.
        chosen: The selection.
        factors: Matches of LoRA factors that stand inside the tuned checkpoint: they come on top of its own matrices.

    Raises:
        CheckpointError: If matched matrices of a block differ in shape, nothing matches at all, or factors have no
            matrix to come on top of.
    """
    matches, resized, added = _matched(base, tuned, book, other)
    assembly = assemble(
        book,
        _with_factors(tuned, matches, factors),
        chosen,
        untouched="absent from the checkpoint",
        known=resized,
        absent=True,
    )
    told = (
        *book.checkpoint.warnings,
        *other.checkpoint.warnings,
        *_dtype_warnings(matches),
        *unrelated_warnings(matches, base, tuned),
        *assembly.warnings,
    )
    names = canonical_names([*(added := list(added)), *other.unread])
    beyond = sum(is_inside(names[module], has_blocks=True) for module in added)
    unread = [module for module in other.unknown if module not in book.unknown]
    coverage = replace(
        assembly.coverage,
        missing_in_base=beyond,
        unknown=assembly.coverage.unknown
        + sum(is_inside(names[module], has_blocks=other.has_blocks) for module in unread),
    )
    tensors = other.checkpoint.tensors.values()
    return CheckpointPair(
        base,
        tuned,
        "full",
        "lora inside a full checkpoint" if factors else "full",
        assembly.matrices,
        (
            *assembly.skipped,
            *(Skipped(module, "not in the base") for module in added),
            *(Skipped(module, reason) for module, reason in other.unread.items() if module not in book.unread),
        ),
        (*coverage_warnings(coverage), *dict.fromkeys(told)),
        trained_parameters=sum(math.prod(tensor.shape) for tensor in tensors if tensor.dtype.is_floating_point),
        nbytes=sum(tensor.nbytes for tensor in tensors),
        coverage=coverage,
    )


def _with_factors(tuned: str, matches: Sequence[Match], factors: Sequence[Match]) -> list[Match]:
    """Each match with the factors of its module on top: W_tuned = base_layer + scaling * B @ A."""
    left = {match.module: match for match in factors}
    whole = []
    for match in matches:
        on_top = left.pop(match.module, None)
        if on_top is None or not isinstance(match.change, Replaced):
            whole.append(match)
        else:
            whole.append(Match(match.module, match.W0, OnMutatedBase(on_top.change, match.change.W_tuned)))
    if left:
        raise CheckpointError(
            f"'{tuned}' holds LoRA factors without the base_layer they belong to: {first_five(sorted(left))}. "
            "Save the checkpoint again."
        )
    return whole


def coverage_warnings(coverage: Coverage) -> list[str]:
    """Parts of the blocks that are absent or cannot be read on one side."""
    if not coverage.gaps:
        return []
    return [f"The comparison is not whole: of the matrices of the blocks, {'; '.join(coverage.gaps)}."]


def _matched(
    base: str, tuned: str, book: Catalogue, other: Catalogue
) -> tuple[list[Match], Mapping[str, str], Sequence[str]]:
    """Matches, matrices whose shape outside the blocks changed, and modules that the base lacks.

    transformers is asked for translations only when names are left over on both sides.
    """
    if other is book:
        return [_match(module, matrix, matrix) for module, matrix in book.matrices.items()], {}, []
    aligned = Alignment(book.matrices, alternating=book.alternating)
    renamed: dict[str, str] = {}
    matches, resized, added = _aligned(base, tuned, aligned, other, renamed)
    found = {key for match in matches.values() for key in keys_of(match.W0)}
    lacking = any(not found.issuperset(keys_of(matrix)) for matrix in book.matrices.values())
    if added and (lacking or not matches):
        aliases = book.architecture.memory_names(list(book.matrices))
        renamed = {old: new for new, old in other.architecture.memory_names(list(other.matrices)).items()}
        if aliases or renamed:
            aligned = Alignment(book.matrices, aliases, alternating=book.alternating)
            matches, resized, added = _aligned(base, tuned, aligned, other, renamed)
    beside = {module: name for module, name in _beside_blocks(book, other, added).items() if name not in matches}
    if beside:
        matches, resized, added = _aligned(base, tuned, aligned, other, {**renamed, **beside})
    if not matches:
        raise CheckpointError(f"No matrix of '{tuned}' is in '{base}'. Check that the one was tuned from the other.")
    return list(matches.values()), resized, added


def _beside_blocks(book: Catalogue, other: Catalogue, added: Iterable[str]) -> dict[str, str]:
    """Modules beside the blocks, such as embeddings, under the prefix that the base's blocks have.

    Empty where either side holds several stacks with prefixes of their own.
    """
    own, its = ({before_blocks(module) for module in side.matrices} - {None} for side in (book, other))
    if len(own) != 1 or len(its) != 1:
        return {}
    [mine], [theirs] = own, its
    moved = {module: f"{mine}{module.removeprefix(str(theirs))}" for module in added if module.startswith(str(theirs))}
    return {module: name for module, name in moved.items() if name in book.matrices}


def _aligned(
    base: str, tuned: str, aligned: Alignment, other: Catalogue, renamed: Mapping[str, str]
) -> tuple[dict[str, Match], dict[str, str], list[str]]:
    matches: dict[str, Match] = {}
    resized: dict[str, str] = {}
    added: list[str] = []
    for module, W_tuned in _as_stored_in_base(aligned, other):
        found = aligned.matrix(module) or (aligned.matrix(renamed[module]) if module in renamed else None)
        if found is None:
            added.append(module)
            continue
        name, W0 = found
        if name in matches:
            raise CheckpointError(
                f"'{module}' and another tensor of '{tuned}' are both '{name}' of the base. Save the checkpoint again."
            )
        if W0.shape == W_tuned.shape:
            matches[name] = _match(name, W0, W_tuned)
        elif layer_of(name) is not None:
            raise CheckpointError(
                f"W0 and W_tuned of '{name}' differ in shape: {W0.shape} and {W_tuned.shape}. "
                f"Check that '{tuned}' was tuned from '{base}'."
            )
        else:
            resized[name] = f"shape {W0.shape} in the base, {W_tuned.shape} in the checkpoint"
    return matches, resized, added


def _as_stored_in_base(aligned: Alignment, other: Catalogue) -> Iterator[tuple[str, StoredMatrix]]:
    """The tuned matrices; gate and up apart where they alternate here and the base stores them apart."""
    for module, matrix in other.matrices.items():
        container, _, leaf = module.rpartition(".")
        if leaf == FUSED and aligned.find(module) is None and other.alternating(module):
            halves = halves_of(matrix, alternating=True)
            yield from zip((f"{container}.{half}" for half in HALVES), halves or (), strict=True)
        else:
            yield module, matrix


def coarser_dtype(one: torch.dtype, other: torch.dtype) -> torch.dtype:
    """The dtype with the larger relative rounding error."""
    return max((one, other), key=lambda dtype: torch.finfo(dtype).eps)


def _match(name: str, W0: StoredMatrix, W_tuned: StoredMatrix) -> Match:
    """Both matrices on the coarser grid: rounding of one side only would look like an update of full rank."""
    if W0.dtype.is_floating_point and W_tuned.dtype.is_floating_point:
        coarser = coarser_dtype(W0.dtype, W_tuned.dtype)
        W0, W_tuned = W0.rounded_to(coarser), W_tuned.rounded_to(coarser)
    return Match(name, W0, Replaced(W_tuned))


def _dtype_warnings(matches: Iterable[Match]) -> list[str]:
    pairs = {
        (match.W0.stored_dtype, match.change.W_tuned.stored_dtype, match.W0.dtype)
        for match in matches
        if isinstance(match.change, Replaced)
    }
    return sorted(
        f"The base is stored in {_word(base)} and the checkpoint in {_word(tuned)}: both are compared in {_word(grid)}."
        for base, tuned, grid in pairs
        if base != tuned
    )


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
