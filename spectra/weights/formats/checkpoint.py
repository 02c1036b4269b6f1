"""A checkpoint as a catalogue of named tensors: which files hold them, and nothing read yet."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from spectra.errors import CheckpointError, first_five
from spectra.storage.json_file import read_object
from spectra.weights.formats.encodings import decoded
from spectra.weights.formats.named import NamedTensors
from spectra.weights.formats.stored import StoredTensor
from spectra.weights.formats.table import added_suffixes, open_file
from spectra.weights.streams.opened import read_headers

# In order of preference: names of files that hold a whole model, and of indices that name its shards.
SINGLE = ("model.safetensors", "pytorch_model.bin", "diffusion_pytorch_model.safetensors")
INDICES = tuple(f"{name}.index.json" for name in SINGLE)

# Pickles that may hold a model, and those of a training folder that hold something else.
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
TRAINING_STATE = re.compile(r"^(training_args|optimizer|scheduler|rng_state|scaler|non_lora_trainables|adapter_)")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Named tensors and the model's configuration.

    Attributes:
        location: As the user named it.
        tensors: By name as stored.
        config: The model's config.json; empty when there is none.
        dequantised: True when the tensors are reconstructions of quantised weights.
        warnings: Sentences about it that a reader of any result has to know.
    """

    location: str
    tensors: Mapping[str, StoredTensor]
    config: Mapping[str, Any]
    dequantised: bool = False
    warnings: tuple[str, ...] = ()

    @property
    def model_type(self) -> str:
        """The family's name in transformers, or "" when unknown."""
        model_type = self.config.get("model_type")
        return model_type if isinstance(model_type, str) else ""


def open_checkpoint(path: Path, *, allow_pickle: bool = False) -> Checkpoint:
    """Open a folder of a full checkpoint, or a single file.

    Raises:
        CheckpointError: If it is none, one of its files is broken, or it is quantised in a way that cannot be undone.
    """
    if not path.exists():
        raise CheckpointError(f"'{path}' does not exist. Check the path.")
    file, told = (path, ()) if path.is_file() else main_file(path)
    named, disagreements = open_tensors(file, allow_pickle=allow_pickle)
    config = named.config or _config_beside(file)
    tensors, encodings = decoded(str(path), named, config)
    if named.dequantised:
        encodings = ("GGUF", *encodings)
    warnings = [*told, *disagreements]
    if encodings:
        warnings.append(
            f"'{path}' is quantised ({', '.join(encodings)}): its matrices are dequantised and are not the original "
            "weights."
        )
    return Checkpoint(str(path), tensors, config, dequantised=bool(encodings), warnings=tuple(warnings))


def _config_beside(file: Path) -> Mapping[str, Any]:
    """The model's configuration in the folder of its file; empty when there is none."""
    path, modelopt = file.parent / "config.json", file.parent / "hf_quant_config.json"
    config = dict(read_object(path)) if path.is_file() else {}
    if "quantization_config" not in config and modelopt.is_file():
        config["quantization_config"] = {"quant_method": "modelopt"}
    return config


def main_file(folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The file of a folder that holds the model, or names the shards that do; and what to say about the choice.

    Raises:
        CheckpointError: If there is none, or several and nothing that says which.
    """
    for name, index in zip(SINGLE, INDICES, strict=True):
        if (folder / name).is_file():
            stale = f"'{folder}' holds '{name}' and '{index}': the single file is read, as transformers does."
            return folder / name, (stale,) if (folder / index).is_file() else ()
        if (folder / index).is_file():
            return folder / index, ()
    named = [path for path in sorted(folder.glob("*.index*.json")) if "weight_map" in read_object(path)]
    named = [path for path in named if not path.name.startswith("adapter_model")]
    if len(named) == 1:
        return named[0], ()
    for pattern in ("*.safetensors", "*.gguf", *(f"*{suffix}" for suffix in added_suffixes()), *PICKLES):
        files = [path for path in sorted(folder.glob(pattern)) if not TRAINING_STATE.match(path.name)]
        if len(files) == 1:
            return files[0], ()
        if files:
            raise CheckpointError(
                f"'{folder}' holds {len(files)} files {pattern} and no index. Name one of them, or restore the index."
            )
    raise CheckpointError(_no_checkpoint(folder))


def _no_checkpoint(folder: Path) -> str:
    """Why a folder is none: what it holds instead, where that is known."""
    if (folder / ".metadata").is_file() or any(folder.glob("*.distcp")):
        return (
            f"'{folder}' is a distributed checkpoint of torch (DCP), which is spread over ranks. "
            "Convert it with `python -m torch.distributed.checkpoint.format_utils dcp_to_torch`, then give that file."
        )
    if (folder / "latest").is_file() or any(folder.glob("*zero_pp_rank_*")):
        return (
            f"'{folder}' is a checkpoint of DeepSpeed, which is spread over ranks. "
            "Gather it with the zero_to_fp32.py that DeepSpeed put beside it, then give that file."
        )
    inner = sorted({path.parent.name for pattern in ("*/*.safetensors", "*/*.bin") for path in folder.glob(pattern)})
    if inner:
        return (
            f"'{folder}' is no checkpoint itself: its subfolders {first_five(inner)} hold weights. "
            "Name the one that is meant."
        )
    return f"'{folder}' is no checkpoint: it holds neither '{SINGLE[0]}' nor '{INDICES[0]}'. Check it."


def open_tensors(file: Path, *, allow_pickle: bool) -> tuple[NamedTensors, tuple[str, ...]]:
    """The tensors of a file, or of all shards that an index names; and how index and shards disagree.

    Raises:
        CheckpointError: If a file is broken or missing, or is a pickle and pickles were not allowed.
    """
    if file.suffix == ".json":
        return _sharded(file, allow_pickle=allow_pickle)
    return open_file(file, allow_pickle=allow_pickle), ()


def _sharded(index_path: Path, *, allow_pickle: bool) -> tuple[NamedTensors, tuple[str, ...]]:
    """The tensors of all shards that an index names, and where the two disagree.

    As transformers does, every tensor of every named shard is taken; what the index says of tensors is not relied on.
    """
    folder = index_path.parent
    weight_map = read_object(index_path).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(name, str) for name in weight_map.values())
    ):
        raise CheckpointError(f"'{index_path}' has no 'weight_map' from tensors to files. Download or save it again.")
    paths = {name: _shard(folder, index_path, name) for name in dict.fromkeys(weight_map.values())}
    read_headers(paths.values())
    shards = {name: open_file(path, allow_pickle=allow_pickle) for name, path in paths.items()}
    tensors: dict[str, StoredTensor] = {}
    for name, shard in shards.items():
        twice = sorted(tensors.keys() & shard.tensors.keys())
        if twice:
            raise CheckpointError(
                f"Tensor '{twice[0]}' stands in '{tensors[twice[0]].path}' and again in '{folder / name}'. "
                "Save the checkpoint again."
            )
        tensors |= shard.tensors
    absent = [f"'{tensor}' ({shard})" for tensor, shard in weight_map.items() if tensor not in tensors]
    told = (f"'{index_path}' names tensors that no shard holds: {first_five(absent)}.",) if absent else ()
    metadata = next(iter(shards.values())).metadata
    return NamedTensors(tensors, metadata), told


def _shard(folder: Path, index_path: Path, name: str) -> Path:
    """The path of a shard, which must lie in the folder: an index is data, and data may not reach elsewhere."""
    path = folder / name
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or "\0" in name or not _stays(folder, path):
        raise CheckpointError(
            f"'{index_path}' points to '{name}', outside its folder. Do not use this checkpoint, or repair the index."
        )
    if not path.is_file():
        raise CheckpointError(f"'{index_path}' names shard '{name}', which is missing. Download it again.")
    return path


def _stays(folder: Path, path: Path) -> bool:
    """True when following symbolic links does not leave the folder, or the blobs of the hub's own cache layout."""
    home, target = folder.resolve(), path.resolve()
    homes = [home, home.parents[1] / "blobs"] if home.parent.name == "snapshots" else [home]
    return any(target.is_relative_to(allowed) for allowed in homes)
