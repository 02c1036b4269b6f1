"""A peft adapter folder: its configuration and its tensors, grouped by the module they change."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra.errors import AdapterError, first_five
from spectra.storage.json_file import read_object
from spectra.weights.formats.checkpoint import open_tensors
from spectra.weights.formats.stored import StoredTensor

CONFIG = "adapter_config.json"
SAFETENSORS = "adapter_model.safetensors"

# What may hold an adapter's tensors, or name the shards that do, in order of preference.
FILES = (SAFETENSORS, f"{SAFETENSORS}.index.json", "adapter_model.bin", "adapter_model.bin.index.json")

# "q_proj.lora_A.weight", "q_proj.lora_A.default.weight", "wte.lora_embedding_B", "q_proj.lora_magnitude_vector"
LORA_KEY = re.compile(
    r"^(?P<module>.+?)\.(?P<kind>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(\.(?P<adapter>(?!weight$|bias$)[^.]+))?(\.(?P<part>weight|bias))?$"
)


# Frozen random matrices, saved so that they need not be drawn again: "base_model.vera_A".
PROJECTION = re.compile(r"^base_model\.\w+_[AB]$")


@dataclass(frozen=True, eq=False)
class Adapter:
    """A peft adapter, opened.

    Attributes:
        path: Its folder.
        config: Its adapter_config.json.
        tensors: By name as stored, without the leading "base_model.model.".
        file: The file of its tensors.
        name: The adapter chosen among several in one file; None when names carry none.
    """

    path: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    file: Path
    name: str | None = None

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
    def trained_parameters(self) -> int:
        """Numbers that were trained: all but indices and the random projections that VeRA and its kin save."""
        return sum(
            math.prod(tensor.shape)
            for name, tensor in self.tensors.items()
            if tensor.dtype.is_floating_point and not PROJECTION.search(name)
        )

    @property
    def revision(self) -> str | None:
        """The revision of the base, as its configuration names it."""
        revision = self.config.get("revision")
        return revision if isinstance(revision, str) and revision else None


@dataclass(frozen=True, eq=False)
class Factors:
    """The LoRA tensors of one module; those of an embedding are stored as (rank, vocabulary) and (d, rank)."""

    module: str
    A: StoredTensor
    B: StoredTensor
    magnitude: StoredTensor | None
    is_embedding: bool


def adapter_folder(path: Path, adapter_name: str | None = None) -> Path | None:
    """The folder of the adapter that is meant, or None when the path holds none.

    peft saves the adapter "default" in the folder itself and every other one in a subfolder of its name.

    Raises:
        AdapterError: If several are there and none was named, or the named one is not there.
    """
    if not path.is_dir():
        return None
    inner = sorted(config.parent.name for config in path.glob(f"*/{CONFIG}"))
    if adapter_name is not None:
        if adapter_name in inner:
            return path / adapter_name
        if (path / CONFIG).is_file():
            return path  # one file may hold several adapters; the name is looked for among its tensors
        listed = first_five(inner) or "none"
        raise AdapterError(f"'{path}' holds no adapter '{adapter_name}'; it holds: {listed}. Correct --adapter-name.")
    if (path / CONFIG).is_file():
        return path
    if len(inner) > 1:
        raise AdapterError(
            f"'{path}' holds {len(inner)} adapters: {first_five(inner)}. Choose one with --adapter-name."
        )
    return path / inner[0] if inner else None


def open_adapter(path: Path, *, allow_pickle: bool = False, adapter_name: str | None = None) -> Adapter:
    """Open an adapter folder.

    Raises:
        AdapterError: If it holds no tensors, or its configuration lacks what its kind needs.
        CheckpointError: If a file is broken, or is a pickle and pickles were not allowed.
    """
    config = read_object(path / CONFIG)
    if not isinstance(config.get("peft_type"), str):
        raise AdapterError(f"'{path / CONFIG}' names no peft_type. Restore the configuration saved with the adapter.")
    file = next((path / name for name in FILES if (path / name).is_file()), None)
    if file is None:
        raise AdapterError(f"'{path}' has an '{CONFIG}' and no '{SAFETENSORS}'. Save the adapter again.")
    stored = open_tensors(file, allow_pickle=allow_pickle)[0].tensors
    if not stored:
        raise AdapterError(f"'{file}' holds no tensor. Save the adapter again after training.")
    tensors = {name.removeprefix("base_model.model."): tensor for name, tensor in stored.items()}
    if len(tensors) < len(stored):
        raise AdapterError(f"'{file}' holds a tensor with and without 'base_model.model.'. Save the adapter again.")
    return Adapter(path, config, tensors, file, _name_in_file(file, tensors, adapter_name))


def _name_in_file(file: Path, tensors: Mapping[str, StoredTensor], wanted: str | None) -> str | None:
    """The adapter to read where the names of LoRA tensors carry an adapter's name."""
    keys = [key for name in tensors if (key := LORA_KEY.match(name))]
    names = sorted({key["adapter"] for key in keys if key["adapter"]})
    if not names:
        return None
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted not in names:
        raise AdapterError(
            f"'{file}' holds {len(names)} adapters: {first_five(names)}. Choose one with --adapter-name."
        )
    return wanted


def lora_factors(adapter: Adapter) -> list[Factors]:
    """Group the LoRA tensors by module, in file order.

    Raises:
        AdapterError: If a module has one factor without the other, or there is no factor at all.
    """
    groups: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in adapter.tensors.items():
        key = LORA_KEY.match(name)
        if key and key["part"] != "bias" and key["adapter"] in (None, adapter.name):
            groups.setdefault(key["module"], {})[key["kind"]] = tensor
    if not groups:
        raise AdapterError(f"'{adapter.file}' holds no lora_A and no lora_B. Check that it is a LoRA adapter.")
    lonely = [f"'{module}' lacks {lacking}" for module, kinds in groups.items() if (lacking := _lacking(kinds))]
    if lonely:
        raise AdapterError(
            f"The factors in '{adapter.file}' are incomplete: {first_five(lonely)}. Save the adapter again."
        )
    integers = [
        f"'{tensor.name}' ({tensor.dtype})"
        for kinds in groups.values()
        for tensor in kinds.values()
        if not tensor.dtype.is_floating_point
    ]
    if integers:
        raise AdapterError(
            f"'{adapter.file}' holds integers where factors belong: {first_five(integers)}. Save the adapter again."
        )
    return [_factors(module, kinds) for module, kinds in groups.items()]


def _lacking(kinds: Mapping[str, StoredTensor]) -> str:
    """The factor that is missing beside the other, or ""."""
    infix = "embedding_" if any("embedding" in kind for kind in kinds) else ""
    return " and ".join(kind for kind in (f"lora_{infix}A", f"lora_{infix}B") if kind not in kinds)


def _factors(module: str, kinds: Mapping[str, StoredTensor]) -> Factors:
    is_embedding = "lora_embedding_A" in kinds
    infix = "embedding_" if is_embedding else ""
    return Factors(
        module, kinds[f"lora_{infix}A"], kinds[f"lora_{infix}B"], kinds.get("lora_magnitude_vector"), is_embedding
    )
