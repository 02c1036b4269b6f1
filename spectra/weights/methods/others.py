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
from spectra.weights.methods.adapter import LORA_KEY, Adapter
from spectra.weights.methods.changes import MergedByPeft, Replaced
from spectra.weights.methods.lora import base_matrix
from spectra.weights.methods.via_peft import PeftMerger, has_target_modules, targeted_modules

# Tails that are the module's own parameters, saved whole.
WHOLE = {"weight", "bias"}


def saved_whole(adapter: Adapter, book: Catalogue, aligned: Alignment) -> tuple[list[Match], list[Skipped]]:
    """Modules that the adapter saved whole (`modules_to_save`, resized embeddings) and what is no matrix."""
    matches: list[Match] = []
    skipped: list[Skipped] = []
    for name, tensor in adapter.tensors.items():
        module, _, tail = name.rpartition(".")
        if LORA_KEY.match(name) or tail not in WHOLE or ".base_layer" in name:
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
        else:
            skipped.append(Skipped(name, f"saved whole with shape {W_tuned.shape}, {W0.shape} in the base"))
    return matches, skipped


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
