"""Open a tuned checkpoint beside its base: the one entrance of this package."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spectra.errors import CheckpointError
from spectra.records.selection import DEFAULT, Selection
from spectra.weights.adapter_pair import Sources, aligned_with, open_adapter_pair
from spectra.weights.dialects.table import open_foreign
from spectra.weights.foreign_pair import open_foreign_pair
from spectra.weights.formats.checkpoint import open_checkpoint
from spectra.weights.formats.hub import locate
from spectra.weights.full_pair import open_full_pair
from spectra.weights.matching.catalogue import catalogue
from spectra.weights.matching.native import is_native, under_names_of
from spectra.weights.methods.adapter import find_adapter, open_adapter
from spectra.weights.methods.inside_full import unwrapped
from spectra.weights.methods.lora import lora_matches
from spectra.weights.pair import CheckpointPair
from spectra.weights.streams.opened import shown_name


def open_pair(base: str | Path | None, tuned: str | Path, selection: Selection = DEFAULT) -> CheckpointPair:
    """Match the matrices of a tuned checkpoint with those of its base, reading headers only.

    Args:
        base: The pre-trained checkpoint: folder, file or hub id; None takes the one that an adapter's configuration
            names.
        tuned: A peft adapter or a full checkpoint: folder, file or hub id.
        selection: Which matrices, and how the files are opened.

    Raises:
        CheckpointError: If a file is missing or broken, the two do not fit together, or nothing is selected.
        AdapterError: If the adapter is incomplete, disagrees with its configuration, or is of an unknown kind.

    Example:
        >>> pair = spectra.open_pair(base, adapter, spectra.Selection(layers=0, roles="q_proj"))
        >>> [(str(matrix.name), matrix.shape) for matrix in pair.matrices]
        [('layers.0.self_attn.q_proj', (16, 16))]
    """
    return _selected(_opened(tuned, base, selection))


def open_to_inspect(
    checkpoint: str | Path, base: str | Path | None = None, selection: Selection = DEFAULT
) -> CheckpointPair:
    """Open a checkpoint to see what is in it: like `open_pair`, but a full one needs no base."""
    path = locate(checkpoint, selection.revision, stream=bool(selection.stream))
    alone = base is None and find_adapter(path, selection.adapter_name, selection.take).adapter is None
    pair = _opened(checkpoint, path if alone else base, selection)
    if selection.narrows:  # what was selected away is no finding; without a selection, nothing to compare may be one
        pair = _selected(pair)
    return replace(pair, base=None) if alone else pair


def _selected(pair: CheckpointPair) -> CheckpointPair:
    """The pair, if the selection leaves a matrix.

    Raises:
        CheckpointError: If it leaves none: a count of nothing is no finding.
    """
    if pair.matrices:
        return pair
    reasons = Counter(skipped.reason for skipped in pair.skipped)
    told = "; ".join(f"{count} {reason}" for reason, count in reasons.most_common(5)) or "nothing was found"
    raise CheckpointError(
        f"No matrix of '{pair.checkpoint}' is left to compare ({told}). Widen the selection; `spectra inspect` lists "
        "the matrices."
    )


def _opened(tuned: str | Path, base: str | Path | None, selection: Selection) -> CheckpointPair:
    """The pair of an adapter, of a full checkpoint, or of a full checkpoint with factors inside."""
    sources = Sources.of(base, selection)
    name = shown_name(tuned)
    adapter_name = selection.adapter_name
    path = locate(tuned, selection.revision, stream=sources.stream)
    foreign = open_foreign(path, allow_pickle=sources.allow_pickle) if selection.take != "model" else None
    if foreign is not None:
        return open_foreign_pair(foreign, name, sources, selection)
    place = find_adapter(path, adapter_name, selection.take)
    if place.adapter is not None:
        adapter = open_adapter(place.adapter, allow_pickle=sources.allow_pickle, adapter_name=adapter_name)
        return told(open_adapter_pair(adapter, name, sources, selection), place.notes)
    if sources.base is None:
        raise CheckpointError(
            f"'{name}' is a full checkpoint and does not say what it was tuned from. Name it with --base."
        )
    checkpoint = open_checkpoint(path, allow_pickle=sources.allow_pickle)
    inside = unwrapped(checkpoint)
    if inside is None or not inside.factors:
        alone = sources.base == path  # to be inspected without a base: it is read once, and stands on both sides
        original = checkpoint if alone else sources.checkpoint(sources.base, sources.base_revision)
        stored = checkpoint if inside is None else inside.checkpoint
        if is_native(stored.tensors) != is_native(original.tensors):
            original, stored = (
                (original, under_names_of(original, stored))
                if is_native(stored.tensors)
                else (under_names_of(stored, original), stored)
            )
        book = catalogue(original)
        other = book if stored is original else catalogue(stored)
        return told(open_full_pair(shown_name(sources.base), name, book, other, selection), place.notes)
    adapter = inside.adapter(adapter_name, selection.lora_alpha)
    if not inside.checkpoint.tensors:
        return told(open_adapter_pair(adapter, name, sources, selection), place.notes)
    book = sources.catalogue(sources.base, sources.base_revision)
    factors = lora_matches(adapter, aligned_with(adapter, book))
    pair = open_full_pair(shown_name(sources.base), name, book, catalogue(inside.checkpoint), selection, factors)
    return told(pair, place.notes)


def told(pair: CheckpointPair, notes: Sequence[str]) -> CheckpointPair:
    """The pair with sentences on how its files were chosen."""
    return replace(pair, warnings=(*notes, *pair.warnings))
