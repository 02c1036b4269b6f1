"""A peft adapter folder: its configuration and its tensors, grouped by the module they change."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra.errors import AdapterError, first_five
from spectra.weights.json_file import read_object
from spectra.weights.safetensors_file import open_safetensors
from spectra.weights.stored import StoredTensor

CONFIG = "adapter_config.json"
SAFETENSORS = "adapter_model.safetensors"
PICKLE = "adapter_model.bin"

# "q_proj.lora_A.weight", "q_proj.lora_A.default.weight", "wte.lora_embedding_B", "q_proj.lora_magnitude_vector"
LORA_KEY = re.compile(
    r"^(?P<module>.+?)\.(?P<kind>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(\.(?P<adapter>(?!weight$|bias$)[^.]+))?(\.(?P<part>weight|bias))?$"
)


@dataclass(frozen=True, eq=False)
class Adapter:
    """A peft adapter, opened.

    Attributes:
        path: Its folder.
        config: Its adapter_config.json.
        tensors: By name as stored, without the leading "base_model.model.".
    """

    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]

    @property
    def peft_type(self) -> str:
        """The method in peft's upper-case spelling, such as "LORA"."""
        return str(self.config.get("peft_type", "")).upper()

    @property
    def base(self) -> str | None:
        """The base it was trained from, as its configuration names it."""
        name = self.config.get("base_model_name_or_path")
        return name if isinstance(name, str) and name else None

    @property
    def file(self) -> Path:
        """The file of its tensors."""
        return next(iter(self.tensors.values())).path


@dataclass(frozen=True, eq=False)
class Factors:
    """The LoRA tensors of one module."""

    module: str
    A: StoredTensor
    B: StoredTensor
    magnitude: StoredTensor | None
    is_embedding: bool


def is_adapter(path: Path) -> bool:
    """True for a folder with an adapter configuration."""
    return (path / CONFIG).is_file()


def open_adapter(path: Path) -> Adapter:
    """Open an adapter folder.

    Raises:
        AdapterError: If it holds no tensors, or its configuration lacks what its kind needs.
        CheckpointError: If a file is broken.
    """
    config = read_object(path / CONFIG)
    if not (path / SAFETENSORS).is_file():
        raise AdapterError(f"'{path}' has an '{CONFIG}' and no '{SAFETENSORS}'. Save the adapter again.")
    tensors = open_safetensors(path / SAFETENSORS).tensors
    if not tensors:
        raise AdapterError(f"'{path / SAFETENSORS}' holds no tensor. Save the adapter again after training.")
    return Adapter(path, config, {name.removeprefix("base_model.model."): tensor for name, tensor in tensors.items()})


def lora_factors(adapter: Adapter) -> list[Factors]:
    """Group the LoRA tensors by module, in file order.

    Raises:
        AdapterError: If a module has one factor without the other, or there is no factor at all.
    """
    groups: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in adapter.tensors.items():
        key = LORA_KEY.match(name)
        if key and key["part"] != "bias":
            groups.setdefault(key["module"], {})[key["kind"]] = tensor
    if not groups:
        raise AdapterError(f"'{adapter.file}' holds no lora_A and no lora_B. Check that it is a LoRA adapter.")
    lonely = [
        f"'{module}' lacks {'lora_B' if f'lora_{infix}A' in kinds else 'lora_A'}"
        for module, kinds in groups.items()
        for infix in ("embedding_" if any("embedding" in kind for kind in kinds) else "",)
        if not {f"lora_{infix}A", f"lora_{infix}B"} <= kinds.keys()
    ]
    if lonely:
        raise AdapterError(
            f"The factors in '{adapter.file}' are incomplete: {first_five(lonely)}. Save the adapter again."
        )
    return [_factors(module, kinds) for module, kinds in groups.items()]


def _factors(module: str, kinds: Mapping[str, StoredTensor]) -> Factors:
    is_embedding = "lora_embedding_A" in kinds
    infix = "embedding_" if is_embedding else ""
    return Factors(
        module, kinds[f"lora_{infix}A"], kinds[f"lora_{infix}B"], kinds.get("lora_magnitude_vector"), is_embedding
    )
