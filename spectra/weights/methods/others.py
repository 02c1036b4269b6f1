"""What an adapter holds beside factors: modules saved whole, biases, trained tokens; and methods merged by peft."""

import math
from collections.abc import Callable, Mapping

from torch import Tensor

from spectra.errors import AdapterError
from spectra.records.verdicts import Skipped
from spectra.weights.formats.stored import StoredMatrix, StoredTensor
from spectra.weights.matching.alignment import Alignment
from spectra.weights.matching.catalogue import Catalogue
from spectra.weights.matching.matching import Match
from spectra.weights.matching.names import layer_of
from spectra.weights.methods.adapter import LORA_KEY, SAVED, TRAINED_ROWS, Adapter, without_adapter
from spectra.weights.methods.changes import MergedByPeft, Replaced, RowsReplaced
from spectra.weights.methods.lora import base_matrix
from spectra.weights.methods.problems import resized
from spectra.weights.methods.via_peft import PeftMerger, has_target_modules, targeted_modules

# Tails that are the module's own parameters, saved whole.
WHOLE = {"weight", "bias"}


def saved_whole(
    adapter: Adapter, book: Catalogue, aligned: Alignment, known: dict[str, str]
) -> tuple[list[Match], list[Skipped]]:
    """Modules that the adapter saved whole (`modules_to_save`, resized embeddings), trained tokens, and the rest.

    Args:
        adapter: The adapter.
        book: The base.
        aligned: Finds the base's matrices.
        known: Takes the reasons why matrices with a match are not compared by default.

    Raises:
        AdapterError: If trained tokens do not fit the base.
    """
    matches: list[Match] = []
    skipped: list[Skipped] = []
    saved = {without_adapter(name) for name in adapter.tensors if SAVED.search(name)}
    for name, tensor in adapter.tensors.items():
        if rows := TRAINED_ROWS.match(name):
            if rows["what"] == "delta" and adapter.peft_type == "LORA":
                matches.append(_trained_rows(adapter, rows["module"], tensor, aligned))
            continue
        found_saved = SAVED.search(name)
        module, _, tail = (without_adapter(name) if found_saved else name).rpartition(".")
        if LORA_KEY.match(name) or tail not in WHOLE or (not found_saved and without_adapter(name) != name):
            continue
        if not found_saved and name in saved:
            continue
        if found_saved and found_saved["adapter"] not in (None, adapter.name, "default"):
            skipped.append(Skipped(name, "saved whole for another adapter"))
            continue
        found = aligned.find(module) if tail == "weight" else None
        if found is None:
            skipped.append(Skipped(name, "saved whole by the adapter, with no matrix of its own in the base"))
            continue
        W0 = book.matrices[found]
        transposed = W0.blocks[0].transposed
        W_tuned = StoredMatrix.of(tensor, transposed=transposed)
        if W_tuned.shape == W0.shape:
            matches.append(Match(found, W0, Replaced(W_tuned)))
        elif layer_of(found) is None and W_tuned.shape[1] == W0.shape[1]:
            common = ((0, min(W_tuned.shape[0], W0.shape[0])),)
            known[found] = resized(W_tuned.shape[0], W0.shape[0])
            matches.append(Match(found, W0.take(common), Replaced(W_tuned.take(common))))
        else:
            skipped.append(Skipped(name, f"saved whole with shape {W_tuned.shape}, {W0.shape} in the base"))
    return matches, skipped


def _trained_rows(adapter: Adapter, module: str, rows: StoredTensor, aligned: Alignment) -> Match:
    """The match of trained tokens (`trainable_token_indices`), which take the place of rows of the embedding."""
    targets = adapter.config.get("trainable_token_indices")
    if isinstance(targets, dict):
        fitting = [indices for target, indices in targets.items() if f".{module}".endswith(f".{target}")]
        indices = fitting[0] if len(fitting) == 1 else None
    else:
        indices = targets
    found = aligned.matrix(module)
    if not isinstance(indices, list) or found is None or len(indices) != rows.shape[0]:
        raise AdapterError(
            f"'{adapter.file}' trains {rows.shape[0]} tokens of '{module}', and its configuration names "
            f"{len(indices) if isinstance(indices, list) else 'none'} "
            f"{'' if found else 'of a module that the base lacks'}. Restore the configuration saved with the adapter."
        )
    name, W0 = found
    if rows.shape[1] != W0.shape[1] or not all(type(index) is int and 0 <= index < W0.shape[0] for index in indices):
        raise AdapterError(
            f"The trained tokens of '{module}' in '{adapter.file}' do not fit the base's embedding {W0.shape}. "
            "Check that --base is the model it was trained from."
        )
    return Match(name, W0, RowsReplaced(tuple(indices), StoredMatrix.of(rows)))


def peft_matches(adapter: Adapter, aligned: Alignment) -> list[Match]:
    """Match the modules of a method that only peft can merge.

    Raises:
        AdapterError: If the method changes no weight matrix, or peft does not know it.
    """
    if not has_target_modules(adapter):
        raise AdapterError(
            f"'{adapter.path}' is a {adapter.peft_type} adapter, which changes no weight matrix (it adds tokens, "
            "prefixes or a side network). Compare an adapter that does."
        )
    owned = owners(adapter, aligned)
    if not owned:
        # Everything that was trained is shared; only the configuration says between which modules.
        owned = {module: [] for module in targeted_modules(adapter, aligned.order) if aligned.find(module)}
    if not owned:
        raise AdapterError(
            f"No tensor of '{adapter.file}' belongs to a matrix of the base. "
            "Check that --base is the model it was trained from."
        )
    # Methods that deal out shared state go by the order in which the model registers its modules.
    place = {module: index for index, module in enumerate(aligned.order)}
    located = {
        module: base_matrix(adapter, module, aligned)
        for module in sorted(owned, key=lambda module: place.get(module, len(place)))
    }
    merger = PeftMerger(adapter, {module: matrix for module, (_, matrix) in located.items()})
    return [
        Match(name, W0, MergedByPeft(_merge(merger, module), sum(math.prod(t.shape) for t in owned[module])))
        for module, (name, W0) in located.items()
    ]


def _merge(merger: PeftMerger, module: str) -> Callable[[Tensor], Tensor]:
    return lambda W0: merger.merged(module, W0)


def owners(adapter: Adapter, aligned: Alignment) -> Mapping[str, list[StoredTensor]]:
    """The adapter's tensors by the module of the base that they change, under the adapter's own names."""
    owned: dict[str, list[StoredTensor]] = {}
    for name, tensor in adapter.tensors.items():
        parts = name.split(".")
        if parts[-1] in WHOLE and aligned.find(".".join(parts[:-1])) is not None:
            continue
        for cut in range(len(parts) - 1, 0, -1):
            module = ".".join(parts[:cut])
            if aligned.find(module) is not None:
                owned.setdefault(module, []).append(tensor)
                break
    return owned
