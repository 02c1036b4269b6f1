"""LoRA adapters in GGUF, as llama.cpp's converter writes them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectra.errors import AdapterError, first_five
from spectra.weights.dialects.foreign import ForeignAdapter, NamedChange, lora_change
from spectra.weights.formats.gguf_file import REORDERED
from spectra.weights.formats.named import NamedTensors
from spectra.weights.formats.rotary import Interleaved
from spectra.weights.formats.stored import StoredMatrix, StoredTensor


def recognises(path: Path, named: NamedTensors, config: Mapping[str, Any]) -> bool:
    """By what the file says about itself."""
    return named.metadata.get("general.type") == "adapter"


def read(path: Path, named: NamedTensors, config: Mapping[str, Any]) -> ForeignAdapter:
    """The changes of a GGUF adapter.

    Raises:
        AdapterError: If it is no LoRA, or a factor is missing.
    """
    kind = named.metadata.get("adapter.type", "lora")
    groups: dict[str, dict[str, StoredTensor]] = {}
    other = []
    for name, tensor in named.tensors.items():
        module, separator, side = name.rpartition(".lora_")
        if separator and side in ("a", "b"):
            groups.setdefault(module, {})[side] = tensor
        else:
            other.append(f"'{name}'")
    lonely = [f"'{module}'" for module, parts in groups.items() if len(parts) < 2]
    if kind != "lora" or lonely or not groups:
        raise AdapterError(
            f"'{path}' is a GGUF adapter ({kind}) without whole pairs of lora_a and lora_b: "
            f"{first_five([*lonely, *other]) or 'no tensor'}. Convert the adapter again."
        )
    alpha = float(named.metadata.get("adapter.lora.alpha", "0"))
    changes = []
    for module, parts in groups.items():
        A, B = StoredMatrix.of(parts["a"]), StoredMatrix.of(parts["b"])
        change = lora_change(module, A, B, alpha or None, path=path)
        order = _order(module, named.metadata.get("general.architecture", ""))
        changes.append(NamedChange(module, change, (B.shape[0], A.shape[1]), interleaved=order))
    nbytes = sum(tensor.nbytes for tensor in named.tensors.values())
    return ForeignAdapter(path, "GGUF adapter", tuple(changes), nbytes=nbytes)


def _order(module: str, architecture: str) -> Interleaved:
    """The converter reorders the rows of B where it reorders those of W."""
    if architecture != REORDERED:
        return ""
    return "queries" if module.endswith("q_proj") else "keys" if module.endswith("k_proj") else ""
