"""The table of adapter dialects: how a file is told to be one, and how it becomes changes by module."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spectra.errors import CheckpointError
from spectra.storage.json_file import read_object
from spectra.weights.dialects import diffusion, gguf_lora, mlx, torchtune
from spectra.weights.dialects.foreign import ForeignAdapter
from spectra.weights.formats.checkpoint import INDICES, SINGLE, main_file
from spectra.weights.formats.named import NamedTensors
from spectra.weights.formats.table import format_of, open_file
from spectra.weights.methods.adapter import CONFIG

Config = Mapping[str, Any]


@dataclass(frozen=True)
class AdapterDialect:
    """One way to save an adapter.

    Attributes:
        name: Short name.
        recognises: Whether named tensors are such an adapter, from the file's path, the tensors and the
            configuration beside them (empty when there is none).
        read: Its changes.
        documentation: One line.
    """

    name: str
    recognises: Callable[[Path, NamedTensors, Config], bool]
    read: Callable[[Path, NamedTensors, Config], ForeignAdapter]
    documentation: str


# In the order in which they are asked.
DIALECTS: tuple[AdapterDialect, ...] = (
    AdapterDialect(
        "gguf", gguf_lora.recognises, gguf_lora.read, "GGUF LoRA of llama.cpp, the order of its rows undone"
    ),
    AdapterDialect(
        "torchtune",
        torchtune.recognises,
        torchtune.read,
        "`adapter_0.pt` of torchtune and LoRA of mistral-finetune, with an adapter_config.json that says alpha",
    ),
    AdapterDialect("mlx", mlx.recognises, mlx.read, "`adapters.safetensors` of mlx-lm (LoRA, DoRA, experts)"),
    AdapterDialect(
        "diffusion",
        diffusion.recognises,
        diffusion.read,
        "single-file LoRA, LoCon, LoHa, LoKr and DoRA of kohya-ss, LyCORIS, diffusers and ComfyUI",
    ),
)

# The files of a folder that are an adapter by their name.
USUAL_FILES = ("adapters.safetensors", "pytorch_lora_weights.safetensors")


def open_foreign(path: Path, *, allow_pickle: bool = False) -> ForeignAdapter | None:
    """The adapter in a file or folder that peft did not save, or None when there is none.

    Raises:
        AdapterError: If it is one and is incomplete.
        CheckpointError: If the file is broken.
    """
    config = _config(path)
    if "peft_type" in config and path.is_dir():
        return None
    file = path if path.is_file() else _file_in(path)
    if file is None or (format_of(file).runs_code and not allow_pickle):
        return None
    named = open_file(file, allow_pickle=allow_pickle)
    dialect = next((dialect for dialect in DIALECTS if dialect.recognises(file, named, config)), None)
    return None if dialect is None else dialect.read(file, named, config)


def _config(path: Path) -> Config:
    """The adapter's configuration beside its file; empty when there is none."""
    file = (path if path.is_dir() else path.parent) / CONFIG
    return read_object(file) if file.is_file() else {}


def _file_in(folder: Path) -> Path | None:
    """The file of a folder that may be an adapter; a folder of a whole model is not looked into."""
    if not folder.is_dir() or any((folder / name).is_file() for name in (*SINGLE, *INDICES)):
        return None
    usual = next((folder / name for name in USUAL_FILES if (folder / name).is_file()), None)
    if usual is not None:
        return usual
    try:
        file, _ = main_file(folder)
    except CheckpointError:
        return None
    return None if file.suffix == ".json" else file
