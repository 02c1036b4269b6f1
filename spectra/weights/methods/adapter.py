"""A peft adapter folder: its configuration and its tensors, grouped by the module they change."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra.errors import AdapterError, first_five
from spectra.records.selection import Take
from spectra.storage.json_file import read_object, require_finite
from spectra.weights.formats.checkpoint import INDICES, SINGLE, open_tensors
from spectra.weights.formats.stored import StoredTensor
from spectra.weights.matching.names import without_wrappers
from spectra.weights.matching.proportion import require_proportionate_adapter

CONFIG = "adapter_config.json"
SAFETENSORS = "adapter_model.safetensors"

# What may hold an adapter's tensors, or name the shards that do, in order of preference.
FILES = (SAFETENSORS, f"{SAFETENSORS}.index.json", "adapter_model.bin", "adapter_model.bin.index.json")

# "q_proj.lora_A.weight", "q_proj.lora_A.default.weight", "wte.lora_embedding_B", "q_proj.lora_magnitude_vector"
LORA_KEY = re.compile(
    r"^(?P<module>.+?)\.(?P<kind>lora_A|lora_B|lora_embedding_A|lora_embedding_B|lora_magnitude_vector)"
    r"(\.(?P<adapter>(?!weight$|bias$)[^.]+))?(\.(?P<part>weight|bias))?$"
)

PREFIX = "base_model.model."
# A module trained whole, kept beside the one before training: "lm_head.modules_to_save.default.weight".
SAVED = re.compile(r"\.modules_to_save\.(?:(?P<adapter>[^.]+)\.)?(?P<part>weight|bias)$")
# Rows of an embedding that were trained: "embed_tokens.token_adapter.trainable_tokens_delta".
TRAINED_ROWS = re.compile(r"(?P<module>.+?)(\.token_adapter)?\.trainable_tokens_(?P<what>delta|original)(\.[^.]+)?$")

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


@dataclass(frozen=True)
class Place:
    """What was found under a path.

    Attributes:
        adapter: The adapter's folder, or its file where the file was named; None where a full checkpoint is meant.
        notes: What a reader has to know about the choice.
    """

    adapter: Path | None
    notes: tuple[str, ...] = ()


def find_adapter(path: Path, adapter_name: str | None = None, take: Take | None = None) -> Place:
    """The adapter that is meant by a path, or None inside the answer when it means a full checkpoint.

    peft saves the adapter "default" in the folder itself and every other one in a subfolder of its name.

    Args:
        path: A folder or a file.
        adapter_name: Which of several.
        take: Which of the two, where a folder holds a full model and an adapter.

    Raises:
        AdapterError: If several are there and none was named, or the named one is not there, or a folder holds a
            full model and an adapter and nothing says which is meant.
    """
    if not path.is_dir():
        beside = (path.parent / CONFIG).is_file() and path.name.startswith("adapter")
        return Place(path if beside and take != "model" else None)
    own = (path / CONFIG).is_file() and _file_in(path) is not None
    model = holds_model(path)
    inner = sorted(config.parent.name for config in path.glob(f"*/{CONFIG}"))
    if take == "model":
        return Place(None)
    if adapter_name is not None:
        if adapter_name in inner:
            return Place(path / adapter_name)
        if own or ((path / CONFIG).is_file() and not model):
            return Place(path)  # one file may hold several adapters; the name is looked for among its tensors
        if model and take is None and (path / CONFIG).is_file():
            return Place(None)  # the name is looked for among the factors inside the full checkpoint
        listed = first_five(inner) or "none"
        if not model or inner:
            raise AdapterError(
                f"'{path}' holds no adapter '{adapter_name}'; it holds: {listed}. Correct --adapter-name."
            )
        return Place(None)
    if own and model and take is None:
        raise AdapterError(
            f"'{path}' holds a full model ({model}) and an adapter. Say which is meant with --take model or "
            "--take adapter."
        )
    if own or ((path / CONFIG).is_file() and not model):
        return Place(path)
    if model and take is None:
        told = (
            f"'{path}' holds a full model and {_several(inner)}: the model is taken. For an adapter, name its folder."
        )
        return Place(None, (told,) if inner else ())
    if len(inner) > 1:
        raise AdapterError(
            f"'{path}' holds {len(inner)} adapters: {first_five(inner)}. Choose one with --adapter-name."
        )
    if not inner and take == "adapter":
        raise AdapterError(f"'{path}' holds no adapter. Leave out --take adapter, or correct the path.")
    return Place(path / inner[0], (f"The adapter is taken from the subfolder '{inner[0]}'.",)) if inner else Place(None)


def _several(inner: Sequence[str]) -> str:
    return f"an adapter in '{inner[0]}'" if len(inner) == 1 else f"adapters in {first_five(inner)}"


def holds_model(folder: Path) -> str | None:
    """The file of a folder that holds a full model, or names its shards; None where there is none."""
    return next((name for name in (*SINGLE, *INDICES) if (folder / name).is_file()), None)


def open_adapter(path: Path, *, allow_pickle: bool = False, adapter_name: str | None = None) -> Adapter:
    """Open an adapter: its folder, or its file beside its configuration.

    Raises:
        AdapterError: If it holds no tensors, or its configuration lacks what its kind needs.
        CheckpointError: If a file is broken, or is a pickle and pickles were not allowed.
    """
    path, file = (path, _file_in(path)) if path.is_dir() else (path.parent, path)
    config = read_object(path / CONFIG)
    require_finite(config, path / CONFIG, AdapterError, "Save the adapter again.")
    if not isinstance(config.get("peft_type"), str):
        raise AdapterError(f"'{path / CONFIG}' names no peft_type. Restore the configuration saved with the adapter.")
    if file is None:
        raise AdapterError(f"'{path}' has an '{CONFIG}' and no '{SAFETENSORS}'. Save the adapter again.")
    stored = open_tensors(file, allow_pickle=allow_pickle)[0].tensors
    if not stored:
        raise AdapterError(f"'{file}' holds no tensor. Save the adapter again after training.")
    longest = max((max(tensor.shape, default=1) for tensor in stored.values()), default=1)
    require_proportionate_adapter(config, longest, str(path / CONFIG))
    tensors = {without_wrappers(name).removeprefix(PREFIX): tensor for name, tensor in stored.items()}
    if len(tensors) < len(stored):
        raise AdapterError(f"'{file}' holds a tensor with and without 'base_model.model.'. Save the adapter again.")
    return Adapter(path, config, tensors, file, adapter_of(tensors, adapter_name, file))


def _file_in(folder: Path) -> Path | None:
    return next((folder / name for name in FILES if (folder / name).is_file()), None)


def adapter_of(names: Iterable[str], wanted: str | None, file: Path) -> str | None:
    """The adapter to read where the names of tensors carry an adapter's name.

    Args:
        names: Of tensors.
        wanted: The adapter that was asked for.
        file: Where they are from, for messages.

    Raises:
        AdapterError: If several are there and none was named, or the named one is not.
    """
    present = sorted({key["adapter"] for name in names if (key := LORA_KEY.match(name)) and key["adapter"]})
    if not present:
        return None
    if wanted is None and len(present) == 1:
        return present[0]
    if wanted not in present:
        raise AdapterError(
            f"'{file}' holds {len(present)} adapters: {first_five(present)}. Choose one with --adapter-name."
        )
    return wanted


def without_adapter(name: str) -> str:
    """A weight's name as it is without an adapter: no base_layer, no original_module, no modules_to_save."""
    name = without_wrappers(name).removeprefix(PREFIX)
    if found := SAVED.search(name):
        return f"{name[: found.start()]}.{found['part']}"
    for wrapper in (".token_adapter.base_layer.", ".base_layer.", ".original_module."):
        name = name.replace(wrapper, ".")
    return name


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
    flat = [
        f"'{tensor.name}' {tensor.shape}"
        for kinds in groups.values()
        for kind, tensor in kinds.items()
        if len(tensor.shape) < 2 and kind != "lora_magnitude_vector"
    ]
    if flat:
        raise AdapterError(
            f"'{adapter.file}' holds no matrices where factors belong: {first_five(flat)}. Save the adapter again."
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
