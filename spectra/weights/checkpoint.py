"""A checkpoint as a catalogue of named tensors: which files hold them, and nothing read yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from spectra.errors import CheckpointError, first_five
from spectra.weights.json_file import read_object
from spectra.weights.safetensors_file import open_safetensors
from spectra.weights.stored import StoredTensor

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Named tensors and the model's configuration.

    Attributes:
        location: As the user named it.
        tensors: By name as stored.
        config: The model's config.json; empty when there is none.
    """

    location: str
    tensors: Mapping[str, StoredTensor]
    config: Mapping[str, Any]

    @property
    def model_type(self) -> str:
        """The family's name in transformers, or "" when unknown."""
        model_type = self.config.get("model_type")
        return model_type if isinstance(model_type, str) else ""


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a folder of a full checkpoint, or a single file.

    Raises:
        CheckpointError: If it is none, or one of its files is broken.
    """
    if path.is_file():
        return Checkpoint(str(path), open_safetensors(path).tensors, _config(path.parent))
    if not path.is_dir():
        raise CheckpointError(f"'{path}' does not exist. Check the path.")
    if (path / INDEX).is_file():
        return Checkpoint(str(path), _sharded(path, path / INDEX), _config(path))
    files = [path / SINGLE] if (path / SINGLE).is_file() else sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return Checkpoint(str(path), open_safetensors(files[0]).tensors, _config(path))
    if files:
        raise CheckpointError(
            f"'{path}' holds {len(files)} safetensors files and no '{INDEX}'. "
            "Name one of the files, or restore the index."
        )
    raise CheckpointError(f"'{path}' is no checkpoint: it holds neither '{SINGLE}' nor '{INDEX}'. Check the path.")


def _config(folder: Path) -> Mapping[str, Any]:
    path = folder / "config.json"
    return read_object(path) if path.is_file() else {}


def _sharded(folder: Path, index_path: Path) -> Mapping[str, StoredTensor]:
    """The tensors of all shards that an index names; the index and the shards must agree."""
    weight_map = read_object(index_path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise CheckpointError(f"'{index_path}' has no 'weight_map' from tensors to files. Download or save it again.")
    shards = {
        name: open_safetensors(_shard(folder, index_path, name)).tensors for name in dict.fromkeys(weight_map.values())
    }
    tensors: dict[str, StoredTensor] = {}
    for name, shard in shards.items():
        twice = sorted(tensors.keys() & shard.keys())
        if twice:
            raise CheckpointError(
                f"Tensor '{twice[0]}' stands in '{tensors[twice[0]].path}' and again in '{folder / name}'. "
                "Save the checkpoint again."
            )
        tensors |= shard
    absent = [f"'{tensor}' ({shard})" for tensor, shard in weight_map.items() if tensor not in shards[shard]]
    if absent:
        raise CheckpointError(
            f"'{index_path}' names tensors that their shards lack: {first_five(absent)}. Download the shards again."
        )
    return tensors


def _shard(folder: Path, index_path: Path, name: str) -> Path:
    """The path of a shard, which must lie in the folder: an index is data, and data may not reach elsewhere."""
    path = folder / name
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name or not _stays(folder, path):
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
