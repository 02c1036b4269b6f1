"""A fully fine-tuned checkpoint beside its base."""

import math
from collections.abc import Iterable

import torch

from spectra.errors import CheckpointError
from spectra.records.verdicts import Skipped
from spectra.weights.bases import unrelated_warnings
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.alignment import Alignment
from spectra.weights.matching.catalogue import Catalogue
from spectra.weights.matching.matching import Match, assemble
from spectra.weights.matching.names import layer_of
from spectra.weights.matching.selection import Selection
from spectra.weights.methods.changes import Replaced
from spectra.weights.pair import CheckpointPair


def open_full_pair(base: str, tuned: str, book: Catalogue, other: Catalogue, chosen: Selection) -> CheckpointPair:
    """Match two full checkpoints, whatever prefixes and heads either has.

    Args:
        base: The base as the user named it.
        tuned: The tuned checkpoint as the user named it.
        book: The base.
        other: The tuned checkpoint.
        chosen: The selection.

    Raises:
        CheckpointError: If matched matrices of a block differ in shape, or nothing matches at all.
    """
    aligned = Alignment(book.matrices)
    matches: dict[str, Match] = {}
    resized: dict[str, str] = {}
    added: list[Skipped] = []
    for module, W_tuned in other.matrices.items():
        found = aligned.matrix(module)
        if found is None:
            added.append(Skipped(module, "not in the base"))
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
    if not matches:
        raise CheckpointError(f"No matrix of '{tuned}' is in '{base}'. Check that the one was tuned from the other.")
    matrices, skipped = assemble(
        book, list(matches.values()), chosen, untouched="absent from the checkpoint", known=resized
    )
    told = (
        *book.checkpoint.warnings,
        *other.checkpoint.warnings,
        *_dtype_warnings(matches.values()),
        *unrelated_warnings(matches.values(), base, tuned),
    )
    tensors = other.checkpoint.tensors.values()
    return CheckpointPair(
        base,
        tuned,
        "full",
        "full",
        matrices,
        (*skipped, *added),
        tuple(dict.fromkeys(told)),
        trained_parameters=sum(math.prod(tensor.shape) for tensor in tensors if tensor.dtype.is_floating_point),
        nbytes=sum(tensor.nbytes for tensor in tensors),
    )


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
