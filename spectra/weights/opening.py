"""Open a tuned checkpoint beside its base: the one entrance of this package."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from spectra.errors import CheckpointError
from spectra.weights.adapter_pair import Sources, aligned_with, open_adapter_pair
from spectra.weights.dialects.table import open_foreign
from spectra.weights.foreign_pair import open_foreign_pair
from spectra.weights.formats.checkpoint import open_checkpoint
from spectra.weights.formats.hub import locate
from spectra.weights.full_pair import open_full_pair
from spectra.weights.matching.catalogue import catalogue
from spectra.weights.matching.native import is_native, under_names_of
from spectra.weights.matching.selection import Selection, selection
from spectra.weights.methods.adapter import Take, find_adapter, open_adapter
from spectra.weights.methods.inside_full import unwrapped
from spectra.weights.methods.lora import lora_matches
from spectra.weights.pair import CheckpointPair


def open_pair(
    base: str | Path | None,
    tuned: str | Path,
    *,
    include: str | None = None,
    exclude: str | None = None,
    roles: str | None = None,
    layers: str | None = None,
    split_fused: bool = False,
    allow_pickle: bool = False,
    adapter_name: str | None = None,
    revision: str | None = None,
    base_revision: str | None = None,
    tuned_base: str | Path | None = None,
    initial_adapter: str | Path | None = None,
    take: Take | None = None,
    lora_alpha: int | float | None = None,
) -> CheckpointPair:
    """Match the matrices of a tuned checkpoint with those of its base, reading headers only.

    Args:
        base: The pre-trained checkpoint: folder, file or hub id; None takes the one that an adapter's configuration
            names.
        tuned: A peft adapter or a full checkpoint: folder, file or hub id.
        include: Regular expression; only canonical names that it matches somewhere are compared.
        exclude: Regular expression; canonical names that it matches somewhere are left out.
        roles: Comma-separated roles to compare, such as "q_proj,v_proj".
        layers: Layers to compare, such as "0-11" or "0,3,8-11".
        split_fused: Take fused matrices (qkv, gate_up) apart and compare their parts.
        allow_pickle: Open .bin files, with torch's restricted loader.
        adapter_name: Which of several adapters in one folder.
        revision: Branch, tag or commit of `tuned` on the hub.
        base_revision: Branch, tag or commit of `base` on the hub.
        tuned_base: For PiSSA, OLoRA, CorDA, LoftQ and the like: the base as the initialisation left it.
        initial_adapter: For the same: the adapter as it was saved before training.
        take: "adapter" or "model", where a folder holds both.
        lora_alpha: Alpha of LoRA factors inside a full checkpoint that comes without their configuration.

    Raises:
        CheckpointError: If a file is missing or broken, or the two do not fit together.
        AdapterError: If the adapter is incomplete, disagrees with its configuration, or is of an unknown kind.
    """
    chosen = selection(include, exclude, roles, layers, split_fused=split_fused)
    sources = Sources(base, base_revision, tuned_base, initial_adapter, allow_pickle)
    return _selected(_opened(tuned, sources, chosen, adapter_name, revision, take, lora_alpha))


def open_to_inspect(
    checkpoint: str | Path,
    base: str | Path | None = None,
    *,
    include: str | None = None,
    exclude: str | None = None,
    roles: str | None = None,
    layers: str | None = None,
    split_fused: bool = False,
    allow_pickle: bool = False,
    adapter_name: str | None = None,
    revision: str | None = None,
    base_revision: str | None = None,
    tuned_base: str | Path | None = None,
    initial_adapter: str | Path | None = None,
    take: Take | None = None,
    lora_alpha: int | float | None = None,
) -> CheckpointPair:
    """Open a checkpoint to see what is in it: like `open_pair`, but a full one needs no base.

    Args:
        checkpoint: A peft adapter or a full checkpoint.
        base: The pre-trained checkpoint, if it is known.
        include: As for `open_pair`, like all that follow.
        exclude: See there.
        roles: See there.
        layers: See there.
        split_fused: See there.
        allow_pickle: See there.
        adapter_name: See there.
        revision: See there.
        base_revision: See there.
        tuned_base: See there.
        initial_adapter: See there.
        take: See there.
        lora_alpha: See there.

    Raises:
        CheckpointError: If a file is missing or broken.
        AdapterError: If the adapter is incomplete or of an unknown kind.
    """
    chosen = selection(include, exclude, roles, layers, split_fused=split_fused)
    path = locate(checkpoint, revision)
    alone = base is None and find_adapter(path, adapter_name, take).adapter is None
    sources = Sources(path if alone else base, base_revision, tuned_base, initial_adapter, allow_pickle)
    pair = _opened(checkpoint, sources, chosen, adapter_name, revision, take, lora_alpha)
    if any(words is not None for words in (include, exclude, roles, layers)):
        pair = _selected(
            pair
        )  # what was selected away is no finding; without a selection, nothing to compare may be one
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


def _opened(
    tuned: str | Path,
    sources: Sources,
    chosen: Selection,
    adapter_name: str | None,
    revision: str | None,
    take: Take | None,
    lora_alpha: int | float | None,
) -> CheckpointPair:
    """The pair of an adapter, of a full checkpoint, or of a full checkpoint with factors inside."""
    path = locate(tuned, revision)
    foreign = open_foreign(path, allow_pickle=sources.allow_pickle) if take != "model" else None
    if foreign is not None:
        return open_foreign_pair(foreign, str(tuned), sources, chosen)
    place = find_adapter(path, adapter_name, take)
    if place.adapter is not None:
        adapter = open_adapter(place.adapter, allow_pickle=sources.allow_pickle, adapter_name=adapter_name)
        return told(open_adapter_pair(adapter, str(tuned), sources, chosen), place.notes)
    if sources.base is None:
        raise CheckpointError(
            f"'{tuned}' is a full checkpoint and does not say what it was tuned from. Name it with --base."
        )
    checkpoint = open_checkpoint(path, allow_pickle=sources.allow_pickle)
    inside = unwrapped(checkpoint)
    if inside is None or not inside.factors:
        base = sources.checkpoint(sources.base, sources.base_revision)
        stored = checkpoint if inside is None else inside.checkpoint
        if is_native(stored.tensors) != is_native(base.tensors):
            base, stored = (
                (base, under_names_of(base, stored))
                if is_native(stored.tensors)
                else (under_names_of(stored, base), stored)
            )
        book, other = catalogue(base), catalogue(stored)
        return told(open_full_pair(str(sources.base), str(tuned), book, other, chosen), place.notes)
    adapter = inside.adapter(adapter_name, lora_alpha)
    if not inside.checkpoint.tensors:
        return told(open_adapter_pair(adapter, str(tuned), sources, chosen), place.notes)
    book = sources.catalogue(sources.base, sources.base_revision)
    factors = lora_matches(adapter, aligned_with(adapter, book))
    pair = open_full_pair(str(sources.base), str(tuned), book, catalogue(inside.checkpoint), chosen, factors)
    return told(pair, place.notes)


def told(pair: CheckpointPair, notes: Sequence[str]) -> CheckpointPair:
    """The pair with sentences on how its files were chosen."""
    return replace(pair, warnings=(*notes, *pair.warnings))
