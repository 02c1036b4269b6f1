"""Open a tuned checkpoint beside its base: the one entrance of this room."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from spectra.errors import CheckpointError
from spectra.weights.adapter_pair import Sources, open_adapter_pair
from spectra.weights.formats.checkpoint import open_checkpoint
from spectra.weights.formats.hub import locate
from spectra.weights.full_pair import open_full_pair
from spectra.weights.matching.catalogue import catalogue
from spectra.weights.matching.selection import selection
from spectra.weights.methods.adapter import adapter_folder, open_adapter
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
    may_be_empty: bool = False,
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
        may_be_empty: Open a checkpoint of which nothing is compared, to see why.

    Raises:
        CheckpointError: If a file is missing or broken, or the two do not fit together.
        AdapterError: If the adapter is incomplete, disagrees with its configuration, or is of an unknown kind.
    """
    chosen = selection(include, exclude, roles, layers, split_fused=split_fused)
    path = locate(tuned, revision)
    folder = adapter_folder(path, adapter_name)
    if folder is not None:
        adapter = open_adapter(folder, allow_pickle=allow_pickle, adapter_name=adapter_name)
        sources = Sources(base, base_revision, tuned_base, initial_adapter, allow_pickle)
        pair = open_adapter_pair(adapter, str(tuned), sources, chosen)
        return pair if may_be_empty else _selected(pair)
    if base is None:
        raise CheckpointError(
            f"'{tuned}' is a full checkpoint and does not say what it was tuned from. Name it with --base."
        )
    book = catalogue(open_checkpoint(locate(base, base_revision, role="base"), allow_pickle=allow_pickle))
    other = catalogue(open_checkpoint(path, allow_pickle=allow_pickle))
    pair = open_full_pair(str(base), str(tuned), book, other, chosen)
    return pair if may_be_empty else _selected(pair)


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


def open_to_inspect(checkpoint: str | Path, base: str | Path | None = None, **options: Any) -> CheckpointPair:
    """Open a checkpoint to see what is in it: like `open_pair`, but a full checkpoint needs no base.

    Args:
        checkpoint: A peft adapter or a full checkpoint.
        base: The pre-trained checkpoint, if it is known.
        options: As for `open_pair`.

    Raises:
        CheckpointError: If a file is missing or broken.
        AdapterError: If the adapter is incomplete or of an unknown kind.
    """
    # Without a selection it may be a finding that nothing is compared; what was selected away is none.
    selects = any(options.get(name) is not None for name in ("include", "exclude", "roles", "layers"))
    options["may_be_empty"] = not selects
    path = locate(checkpoint, options.get("revision"))
    if base is not None or adapter_folder(path, options.get("adapter_name")) is not None:
        return open_pair(base, checkpoint, **options)
    return replace(open_pair(path, checkpoint, **options), base=None)
