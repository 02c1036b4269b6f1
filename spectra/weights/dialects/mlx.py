"""Adapters of mlx-lm: `adapters.safetensors` with lora_a (d_in, rank) and lora_b (rank, d_out), and its own config."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spectra.errors import AdapterError, first_five
from spectra.weights.dialects.foreign import ForeignAdapter, NamedChange, lora_change
from spectra.weights.formats.named import NamedTensors
from spectra.weights.formats.stored import StoredMatrix, StoredTensor
from spectra.weights.matching.names import EMBEDDING
from spectra.weights.methods.changes import Change, DoraChange

TAILS = (".lora_a", ".lora_b")
EXPERTS = ".switch_mlp."


def recognises(path: Path, named: NamedTensors, config: Mapping[str, Any]) -> bool:
    """By the tails, which no other program writes without ".weight"; GGUF has them too, and says what it is."""
    return "general.type" not in named.metadata and (
        any(name.endswith(TAILS) for name in named.tensors) or "fine_tune_type" in config
    )


def read(path: Path, named: NamedTensors, config: Mapping[str, Any]) -> ForeignAdapter:
    """The changes of an adapter of mlx-lm.

    Raises:
        AdapterError: If the configuration that holds the scale is missing, or a factor is.
    """
    groups: dict[str, dict[str, StoredTensor]] = {}
    whole: dict[str, StoredTensor] = {}
    for name, tensor in named.tensors.items():
        module, _, tail = name.rpartition(".")
        if tail in ("lora_a", "lora_b", "m"):
            groups.setdefault(module, {})[tail] = tensor
        else:
            whole[name] = tensor
    lonely = [f"'{module}'" for module, parts in groups.items() if not {"lora_a", "lora_b"} <= parts.keys()]
    if lonely:
        raise AdapterError(f"The factors in '{path}' are incomplete: {first_five(lonely)}. Save the adapter again.")
    settings = config.get("lora_parameters")
    scale = settings.get("scale") if isinstance(settings, Mapping) else None
    if groups and type(scale) not in (int, float):
        raise AdapterError(
            f"'{path}' is an adapter of mlx-lm, and no 'adapter_config.json' beside it holds its scale "
            "(lora_parameters.scale). Put the configuration that was saved with it beside it."
        )
    changes = tuple(
        change
        for module, parts in groups.items()
        for change in _changes(path, module, parts, float(scale))  # type: ignore[arg-type]
    )
    base = config.get("model")
    return ForeignAdapter(
        path,
        "adapter of mlx-lm",
        changes,
        base=base if isinstance(base, str) and base else None,
        method=str(config.get("fine_tune_type", "lora")),
        whole=whole,
        nbytes=sum(tensor.nbytes for tensor in named.tensors.values()),
    )


def _changes(path: Path, module: str, parts: Mapping[str, StoredTensor], scale: float) -> Iterator[NamedChange]:
    a, b = parts["lora_a"], parts["lora_b"]
    if len(a.shape) == 3:  # experts: already (experts, rank, d_in) and (experts, d_out, rank)
        for expert in range(max(a.shape[0], b.shape[0])):
            A = StoredMatrix.of(a, expert=expert % a.shape[0])
            B = StoredMatrix.of(b, expert=expert % b.shape[0])
            name = module.replace(EXPERTS, f".experts.{expert}.")
            change = lora_change(name, A, B, path=path, scaling=scale)
            yield NamedChange(name, change, (B.shape[0], A.shape[1]))
        return
    if EMBEDDING.search(module):  # (vocabulary, rank) and (rank, d): the vocabulary are the rows
        A, B = StoredMatrix.of(b), StoredMatrix.of(a)
    else:
        A, B = StoredMatrix.of(a, transposed=True), StoredMatrix.of(b, transposed=True)
    found: Change = lora_change(module, A, B, path=path, scaling=scale)
    if "m" in parts:
        found = DoraChange(found, StoredMatrix.of(parts["m"]))
    yield NamedChange(module, found, (B.shape[0], A.shape[1]))
