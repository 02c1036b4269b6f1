"""Write adapters that peft loads again and full checkpoints that transformers loads again, whole or not at all."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from spectra.errors import CheckpointError
from spectra.storage.atomic import write_json
from spectra.storage.destinations import MARKER, whole_folder
from spectra.weights.formats.checkpoint import INDICES, SINGLE, Checkpoint, open_checkpoint
from spectra.weights.formats.hub import locate
from spectra.weights.formats.safetensors_writer import TensorToWrite, write_safetensors
from spectra.weights.formats.stored import StoredMatrix, StoredTensor
from spectra.weights.methods.adapter import CONFIG, SAFETENSORS
from spectra.weights.origin import ORIGIN, Origin

# What beside weights makes a folder loadable: configurations, tokenizers, chat templates, licences.
KEPT = (".json", ".txt", ".model", ".jinja", ".md")
SHARD_BYTES = 5_000_000_000
PREFIX = "base_model.model."

Matrices = Sequence[tuple[StoredMatrix, Callable[[], Tensor]]]


def write_adapter(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    origin: Origin,
    *,
    source: Path | None = None,
    force: bool = False,
) -> None:
    """Write an adapter folder that `PeftModel.from_pretrained` loads.

    Args:
        folder: Where to; it must not exist unless `force`.
        config: Its adapter_config.json.
        tensors: By name, such as "model.layers.0.self_attn.q_proj.lora_A.weight", with or without peft's prefix.
        origin: What it was made from.
        source: A folder whose tokenizer, chat template and licence are kept.
        force: Replace an existing folder.

    Raises:
        DestinationError: If the folder exists without `force`, or is no adapter that this package wrote.
        CheckpointError: If a tensor holds NaN or infinity.
    """
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise CheckpointError(
            f"'{broken[0]}' holds NaN or infinity and is not written to '{folder}'. Check its source."
        )
    kept = [] if source is None else [source]
    named = {name if name.startswith("base_model.") else PREFIX + name: tensor for name, tensor in tensors.items()}
    with whole_folder(folder, "adapter", force=force, inputs=kept) as partial:
        if source is not None:
            _keep(source, partial)
        entries = [TensorToWrite.of(name, tensor) for name, tensor in sorted(named.items())]
        write_safetensors(partial / SAFETENSORS, entries)
        write_json(partial / CONFIG, config)
        write_json(partial / ORIGIN, origin.to_dict())


def write_full_checkpoint(
    folder: Path,
    source: str | Path,
    matrices: Matrices,
    origin: Origin,
    *,
    force: bool = False,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a full checkpoint: another one with some matrices replaced.

    One tensor is in memory at a time, in the dtype and layout that the source stores it in.

    Args:
        folder: Where to; it must not exist unless `force`.
        source: The checkpoint whose other tensors, configuration and tokenizer are kept.
        matrices: Matrices of the source and what to put in their place, (d_out, d_in), computed when it is written.
        origin: What it was made from.
        force: Replace an existing folder.
        shard_bytes: Begin another file before this size.

    Raises:
        DestinationError: If the folder exists without `force`, or is no checkpoint that this package wrote.
        CheckpointError: If the source is dequantised, or a matrix is none of the source's.
    """
    path = locate(source)
    checkpoint = open_checkpoint(path)
    if checkpoint.dequantised:
        raise CheckpointError(f"'{source}' is quantised and cannot be written back. Give a source that is not.")
    changes = _by_tensor(checkpoint, matrices)
    entries = [
        TensorToWrite(name, tensor.dtype, tensor.shape, _producer(tensor, changes.get(name, ())))
        for name, tensor in checkpoint.tensors.items()
    ]
    with whole_folder(folder, "checkpoint", force=force, inputs=[path]) as partial:
        _keep(path if path.is_dir() else path.parent, partial)
        _write_shards(partial, _shards(entries, shard_bytes))
        write_json(partial / ORIGIN, origin.to_dict())


def _keep(source: Path, folder: Path) -> None:
    """Copy what beside the weights makes a folder loadable."""
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in KEPT and file.name not in (*INDICES, ORIGIN, MARKER):
            shutil.copyfile(file, folder / file.name)


def _by_tensor(
    checkpoint: Checkpoint, matrices: Matrices
) -> Mapping[str, list[tuple[StoredMatrix, Callable[[], Tensor]]]]:
    """The replacements that touch each tensor of the source."""
    changes: dict[str, list[tuple[StoredMatrix, Callable[[], Tensor]]]] = {}
    for matrix, produce in matrices:
        for name in {block.tensor.name for block in matrix.blocks}:
            if name not in checkpoint.tensors:
                raise CheckpointError(f"'{name}' is no tensor of '{checkpoint.location}'. Give the source it is from.")
            changes.setdefault(name, []).append((matrix, produce))
    return changes


def _producer(
    tensor: StoredTensor, changes: Sequence[tuple[StoredMatrix, Callable[[], Tensor]]]
) -> Callable[[], Tensor]:
    """Reads a tensor and puts the replaced rows in their places."""

    def produce() -> Tensor:
        data = tensor.read()
        for matrix, replacement in changes:
            rows = replacement().to("cpu", data.dtype)
            if not rows.isfinite().all():
                raise CheckpointError(
                    f"What should replace {matrix.source} holds NaN or infinity. Check how it was made."
                )
            first = 0
            for block in matrix.blocks:
                last = first + block.rows
                if block.tensor.name == tensor.name:
                    seen = data.view(block.tensor.shape)
                    target = seen if block.expert is None else seen[block.expert]
                    target = target.mT if block.transposed else target.flatten(1)
                    target[block.start : block.stop : block.step] = rows[first:last]
                first = last
        return data

    return produce


def _shards(entries: Sequence[TensorToWrite], shard_bytes: int) -> list[list[TensorToWrite]]:
    shards: list[list[TensorToWrite]] = [[]]
    for entry in entries:
        if shards[-1] and sum(other.nbytes for other in shards[-1]) + entry.nbytes > shard_bytes:
            shards.append([])
        shards[-1].append(entry)
    return shards


def _write_shards(folder: Path, shards: Sequence[Sequence[TensorToWrite]]) -> None:
    if len(shards) == 1:
        write_safetensors(folder / SINGLE[0], shards[0])
        return
    weight_map = {}
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        write_safetensors(folder / name, shard)
        weight_map.update({entry.name: name for entry in shard})
    total = sum(entry.nbytes for shard in shards for entry in shard)
    write_json(folder / INDICES[0], {"metadata": {"total_size": total}, "weight_map": weight_map})
