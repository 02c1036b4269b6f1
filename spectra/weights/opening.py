"""Open a tuned checkpoint beside its base."""

from collections.abc import Mapping
from pathlib import Path

import torch

from spectra.errors import AdapterError, CheckpointError
from spectra.records import Skipped
from spectra.weights.adapter import Adapter, Factors, is_adapter, lora_factors, open_adapter
from spectra.weights.catalogue import Catalogue, catalogue
from spectra.weights.changes import Change, LoraChange, Replaced
from spectra.weights.checkpoint import open_checkpoint
from spectra.weights.pair import CheckpointPair, MatrixPair
from spectra.weights.scaling import LoraPatterns
from spectra.weights.selection import Selection, selection
from spectra.weights.stored import StoredMatrix


def open_pair(
    base: str | Path | None,
    tuned: str | Path,
    *,
    include: str | None = None,
    exclude: str | None = None,
    roles: str | None = None,
    layers: str | None = None,
) -> CheckpointPair:
    """Match the matrices of a tuned checkpoint with those of its base, reading headers only.

    Args:
        base: The pre-trained checkpoint; None takes the one that an adapter's configuration names.
        tuned: A peft adapter folder or a full checkpoint.
        include: Regular expression on canonical names.
        exclude: Regular expression on canonical names.
        roles: Comma-separated roles to keep.
        layers: Layers to keep, such as "0-11".

    Raises:
        CheckpointError: If a file is broken, or the two do not fit together.
        AdapterError: If the adapter is incomplete or of an unknown kind.
    """
    chosen = selection(include, exclude, roles, layers)
    path = Path(tuned)
    if is_adapter(path):
        return _open_adapter_pair(base, open_adapter(path), str(tuned), chosen)
    if base is None:
        raise CheckpointError(
            f"'{tuned}' is a full checkpoint and does not say what it was tuned from. Name it with --base."
        )
    return _open_full_pair(base, tuned, chosen)


def _open_adapter_pair(base: str | Path | None, adapter: Adapter, tuned: str, chosen: Selection) -> CheckpointPair:
    origin = base if base is not None else adapter.base
    if origin is None:
        raise AdapterError(f"'{adapter.path}' does not name the base it was trained from. Name it with --base.")
    book = catalogue(open_checkpoint(Path(origin)))
    patterns = LoraPatterns.of(adapter.config)
    changes = {factors.module: _lora_change(factors, patterns) for factors in lora_factors(adapter)}
    missing = [module for module in changes if module not in book.matrices]
    if missing:
        raise AdapterError(f"'{missing[0]}' of '{adapter.file}' is not in '{origin}'. Check --base.")
    matched = {module: (book.matrices[module], change) for module, change in changes.items()}
    matrices, skipped = _selected(book, matched, chosen)
    return CheckpointPair(str(origin), tuned, "adapter", "lora", matrices, skipped)


def _lora_change(factors: Factors, patterns: LoraPatterns) -> LoraChange:
    return LoraChange(StoredMatrix.of(factors.A), StoredMatrix.of(factors.B), patterns.settings(factors.module))


def _open_full_pair(base: str | Path, tuned: str | Path, chosen: Selection) -> CheckpointPair:
    book, other = catalogue(open_checkpoint(Path(base))), catalogue(open_checkpoint(Path(tuned)))
    by_name = {name.canonical: module for module, name in other.names.items()}
    matched: dict[str, tuple[StoredMatrix, Change]] = {}
    dtypes = set()
    for module, name in book.names.items():
        if name.canonical not in by_name:
            continue
        W0, W_tuned = book.matrices[module], other.matrices[by_name[name.canonical]]
        if W0.shape != W_tuned.shape:
            raise CheckpointError(
                f"W0 and W_tuned of '{name}' differ in shape: {W0.shape} and {W_tuned.shape}. "
                f"Check that '{tuned}' was tuned from '{base}'."
            )
        coarser = max((W0.dtype, W_tuned.dtype), key=lambda dtype: torch.finfo(dtype).eps)
        if W0.dtype != W_tuned.dtype:
            dtypes.add((W0.dtype, W_tuned.dtype, coarser))
        matched[module] = W0.rounded_to(coarser), Replaced(W_tuned.rounded_to(coarser))
    warnings = tuple(
        f"The base is stored in {a}, the checkpoint in {b}: both are compared in {c}." for a, b, c in dtypes
    )
    matrices, skipped = _selected(book, matched, chosen)
    return CheckpointPair(str(base), str(tuned), "full", "full", matrices, skipped, warnings)


def _selected(
    book: Catalogue, matched: Mapping[str, tuple[StoredMatrix, Change]], chosen: Selection
) -> tuple[tuple[MatrixPair, ...], tuple[Skipped, ...]]:
    matrices, skipped = [], []
    for module in book.matrices:
        name = book.names[module]
        reason = chosen.reason_to_skip(name, has_blocks=book.has_blocks)
        if reason is None and module not in matched:
            reason = "not changed by this checkpoint"
        if reason is None:
            matrices.append(MatrixPair(name, *matched[module]))
        else:
            skipped.append(Skipped(name.canonical, reason))
    return tuple(matrices), tuple(skipped)
