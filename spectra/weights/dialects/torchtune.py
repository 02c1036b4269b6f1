"""Adapters of torchtune (`adapter_0.pt`) and of mistral-finetune: factors under the names of the model's authors."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectra.errors import AdapterError, first_five
from spectra.weights.dialects.foreign import ForeignAdapter, NamedChange, lora_change
from spectra.weights.formats.named import NamedTensors
from spectra.weights.formats.stored import StoredMatrix, StoredTensor
from spectra.weights.matching.native import renamed

KEY = re.compile(
    r"^(?P<module>layers\.\d+\.(attn|mlp|attention|feed_forward)\.\w+|output)\.lora_(?P<side>[abAB])\.weight$"
)


def recognises(path: Path, named: NamedTensors, config: Mapping[str, Any]) -> bool:
    """True when all factors stand under such names."""
    keys = [KEY.match(name) for name in named.tensors]
    return any(keys) and not any(".lora_" in name for name, key in zip(named.tensors, keys, strict=True) if not key)


def read(path: Path, named: NamedTensors, config: Mapping[str, Any]) -> ForeignAdapter:
    """The changes of such an adapter.

    Raises:
        AdapterError: If nothing beside it says its alpha, or a factor is missing.
    """
    rank, alpha = config.get("r"), config.get("lora_alpha")
    scaling = config.get("lora", {}).get("scaling") if isinstance(config.get("lora"), Mapping) else None
    groups: dict[str, dict[str, StoredTensor]] = {}
    whole: dict[str, StoredTensor] = {}
    for name, tensor in named.tensors.items():
        key = KEY.match(name)
        if key is None:
            whole[name] = tensor
        else:
            groups.setdefault(key["module"], {})[key["side"].lower()] = tensor
    lonely = [f"'{module}'" for module, parts in groups.items() if len(parts) < 2]
    if lonely:
        raise AdapterError(f"The factors in '{path}' are incomplete: {first_five(lonely)}. Save the adapter again.")
    if scaling is None and (type(rank) is not int or type(alpha) not in (int, float)):
        raise AdapterError(
            f"'{path}' is an adapter of torchtune or mistral-finetune, and nothing beside it says its alpha. "
            "Put an adapter_config.json with r and lora_alpha beside it."
        )
    changes = []
    for module, parts in groups.items():
        found = renamed(module)
        A, B = StoredMatrix.of(parts["a"]), StoredMatrix.of(parts["b"])
        change = lora_change(module, A, B, None if alpha is None else float(alpha), path=path, scaling=scaling)
        name = module if found is None else found.module
        order = "" if found is None else found.interleaved
        changes.append(NamedChange(name, change, (B.shape[0], A.shape[1]), interleaved=order))
    base = config.get("base_model_name_or_path")
    nbytes = sum(tensor.nbytes for tensor in named.tensors.values())
    return ForeignAdapter(
        path,
        "adapter of torchtune or mistral-finetune",
        tuple(changes),
        base=base if isinstance(base, str) and base else None,
        whole=whole,
        nbytes=nbytes,
    )
