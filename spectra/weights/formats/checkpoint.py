"""A checkpoint as a catalogue of named tensors: which files hold them, and nothing read yet."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from spectra.errors import CheckpointError, first_five
from spectra.storage.json_file import read_object
from spectra.weights.formats import bitsandbytes_file
from spectra.weights.formats.gguf_file import open_gguf
from spectra.weights.formats.pickle_file import open_pickle
from spectra.weights.formats.safetensors_file import open_safetensors
from spectra.weights.formats.stored import StoredTensor

# In order of preference: names of files that hold a whole model, and of indices that name its shards.
SINGLE = ("model.safetensors", "pytorch_model.bin")
INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")


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
    file = path if path.is_file() else _main_file(path)
    if file.suffix == ".gguf":
        opened = open_gguf(file)
        told = (f"'{path}' is quantised (GGUF): its matrices are dequantised, W0 is not the original weight.",)
        return Checkpoint(str(path), opened.tensors, opened.config, dequantised=True, warnings=told)
    config_path = file.parent / "config.json"
    config = read_object(config_path) if config_path.is_file() else {}
    return _plain_or_dequantised(str(path), _tensors(file, allow_pickle=allow_pickle), config)


def _main_file(folder: Path) -> Path:
    """The file of a folder that holds the model, or names the shards that do."""
    for name in (SINGLE[0], INDICES[0], SINGLE[1], INDICES[1]):
        if (folder / name).is_file():
            return folder / name
    for pattern in ("*.safetensors", "*.gguf"):
        files = sorted(folder.glob(pattern))
        if len(files) == 1:
            return files[0]
        if files:
            raise CheckpointError(
                f"'{folder}' holds {len(files)} files {pattern} and no index. Name one of them, or restore the index."
            )
    raise CheckpointError(f"'{folder}' is no checkpoint: it holds neither '{SINGLE[0]}' nor '{INDICES[0]}'. Check it.")


def _tensors(file: Path, *, allow_pickle: bool) -> Mapping[str, StoredTensor]:
    if file.name.endswith(".index.json"):
        return _sharded(file, allow_pickle=allow_pickle)
    if file.suffix in (".bin", ".pt", ".pth"):
        return open_pickle(file, allow_pickle=allow_pickle)
    return open_safetensors(file).tensors


def _plain_or_dequantised(location: str, tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> Checkpoint:
    """Undo bitsandbytes, refuse what cannot be undone."""
    settings = config.get("quantization_config")
    method = str(settings.get("quant_method", "")).lower() if isinstance(settings, dict) else ""
    packed = [name for name in tensors if name.endswith((".qweight", ".weight_packed", "_blocks", ".weight_scale_inv"))]
    if bitsandbytes_file.is_quantised(tensors):
        told = f"'{location}' is quantised (bitsandbytes): its matrices are dequantised, W0 is not the original weight."
        return Checkpoint(location, bitsandbytes_file.dequantised(tensors), config, dequantised=True, warnings=(told,))
    if packed or (method and method != "bitsandbytes"):
        raise CheckpointError(
            f"'{location}' is quantised with {method or 'an unknown method'}, which spectra cannot dequantise"
            f"{f' (tensor {packed[0]!r})' if packed else ''}. Give the checkpoint it was quantised from."
        )
    return Checkpoint(location, tensors, config)


def _sharded(index_path: Path, *, allow_pickle: bool) -> Mapping[str, StoredTensor]:
    """The tensors of all shards that an index names; the index and the shards must agree."""
    folder = index_path.parent
    weight_map = read_object(index_path).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(name, str) for name in weight_map.values())
    ):
        raise CheckpointError(f"'{index_path}' has no 'weight_map' from tensors to files. Download or save it again.")
    paths = {name: _shard(folder, index_path, name) for name in dict.fromkeys(weight_map.values())}
    shards = {name: _tensors(path, allow_pickle=allow_pickle) for name, path in paths.items()}
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
    unlisted = sorted(tensors.keys() - weight_map.keys())
    if unlisted:
        raise CheckpointError(
            f"'{index_path}' does not name tensors that its shards hold: {first_five(unlisted)}. Save it again."
        )
    return tensors


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
