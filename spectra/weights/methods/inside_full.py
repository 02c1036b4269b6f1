"""LoRA factors that stand inside a full state dict: what a wrapped model's `state_dict()` holds when it is saved whole.

zero_to_fp32, FSDP's full state dict and `accelerator.save_model` write `q_proj.base_layer.weight` beside
`q_proj.lora_A.default.weight`; Phi-4-multimodal publishes its weights so. The tuned matrix is base_layer + scaling B A,
and the scaling stands in no tensor: it is taken from the adapter_config.json beside the file, from the section that
Phi-4-multimodal's config.json has for each adapter, or from the caller.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spectra.errors import AdapterError, CheckpointError
from spectra.storage.json_file import read_object
from spectra.weights.formats.checkpoint import Checkpoint
from spectra.weights.formats.stored import StoredTensor
from spectra.weights.matching.names import without_wrappers
from spectra.weights.methods.adapter import (
    CONFIG,
    LORA_KEY,
    PREFIX,
    SAVED,
    TRAINED_ROWS,
    Adapter,
    adapter_of,
    without_adapter,
)


@dataclass(frozen=True, eq=False)
class Unwrapped:
    """A full checkpoint, with the factors inside it apart.

    Attributes:
        checkpoint: The plain weights under the names that they have without an adapter.
        factors: The tensors of adapters, by name.
    """

    checkpoint: Checkpoint
    factors: Mapping[str, StoredTensor]

    def adapter(self, name: str | None, alpha: int | float | None) -> Adapter:
        """The adapter inside.

        Args:
            name: Which of several.
            alpha: lora_alpha, where no configuration says it.

        Raises:
            AdapterError: If several are there and none was named, or nothing says the scaling.
        """
        location = Path(self.checkpoint.location)
        chosen = adapter_of(self.factors, name, location)
        folder = location if location.is_dir() else location.parent
        if (folder / CONFIG).is_file():
            config: Mapping[str, Any] = read_object(folder / CONFIG)
        else:
            config = {"peft_type": "LORA", **_settings(self, chosen, alpha)}
        return Adapter(folder, config, self.factors, location, chosen)


def unwrapped(checkpoint: Checkpoint) -> Unwrapped | None:
    """The factors and the plain weights of a full checkpoint, or None where it holds no factors.

    Raises:
        CheckpointError: If two tensors are the same weight once an adapter's wrappers are taken off.
    """
    if not any(LORA_KEY.match(name) or ".base_layer." in name or SAVED.search(name) for name in checkpoint.tensors):
        return None
    plain: dict[str, StoredTensor] = {}
    factors: dict[str, StoredTensor] = {}
    saved = {without_adapter(name) for name in checkpoint.tensors if SAVED.search(name)}
    for stored, tensor in checkpoint.tensors.items():
        name = without_wrappers(stored).removeprefix(PREFIX)
        if LORA_KEY.match(name) or TRAINED_ROWS.search(name):
            factors[name] = tensor
            continue
        weight = without_adapter(name)
        if weight in saved and not SAVED.search(name):
            continue  # the module as it was before training, kept beside the one that was trained
        if weight in plain:
            raise CheckpointError(
                f"'{plain[weight].name}' and '{tensor.name}' of '{checkpoint.location}' are both '{weight}'. "
                "Save the checkpoint again."
            )
        plain[weight] = tensor
    return Unwrapped(replace(checkpoint, tensors=plain), factors)


def _settings(unwrapped: Unwrapped, name: str | None, alpha: int | float | None) -> Mapping[str, Any]:
    """Ranks from the factors themselves, alpha from the caller or from the section of config.json for this adapter."""
    section = unwrapped.checkpoint.config.get(f"{name}_lora")
    if alpha is None and isinstance(section, Mapping):
        alpha = section.get("lora_alpha")
    if alpha is None:
        raise AdapterError(
            f"'{unwrapped.checkpoint.location}' holds LoRA factors, and nothing says their alpha, without which "
            f"scaling * B @ A is not known. Give it with --lora-alpha, or put the training's {CONFIG} beside the file."
        )
    ranks = {
        f"^{re.escape(key['module'])}": tensor.shape[0]
        for stored, tensor in unwrapped.factors.items()
        if (key := LORA_KEY.match(stored)) and key["kind"] in ("lora_A", "lora_embedding_A")
    }
    if not ranks:
        raise AdapterError(f"'{unwrapped.checkpoint.location}' holds parts of an adapter and no lora_A. Save it again.")
    return {"r": next(iter(ranks.values())), "lora_alpha": alpha, "rank_pattern": ranks}
