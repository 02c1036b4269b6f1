"""The body of a model after one more task, and the task's head, as files."""

from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from spectra.models import ModelKind, adapter_labels, is_adapter, load_base, load_tuned
from spectra.training.modules import head_modules


def save_state(weights: Path, start: str, before: str, base: str, kind: ModelKind, folder: Path) -> nn.Module:
    """Write  W_before + (W_tuned - W_start)  as a full checkpoint without a head.

    Args:
        weights: An adapter, or a full checkpoint, that was tuned from `start`.
        start: Where its training started from.
        before: The state so far; the same folder as `start` where tasks are merged one after the other.
        base: The original base, whose pooler every task starts from.
        kind: Kind of the models.
        folder: An empty folder to write into.

    Returns:
        The tuned model, merged, head included.
    """
    loaded = load_tuned(weights, base=start, kind=kind)
    tuned: Any = loaded.model.merge_and_unload() if is_adapter(weights) else loaded.model  # type: ignore[operator]
    head = {name: tensor.clone() for name, tensor in _head(tuned).items()}
    labels = _labels(weights, tuned)
    body = {name: tensor for name, tensor in tuned.state_dict().items() if name not in head}
    if before != start:
        old, new = (load_base(one, kind, num_labels=labels).model.state_dict() for one in (start, before))
        body = {name: new[name] + (tensor - old[name]) for name, tensor in body.items()}
    prefix = f"{tuned.base_model_prefix}."
    pooler = _head(load_base(base, kind, num_labels=labels).model)
    kept = body | {name: tensor for name, tensor in pooler.items() if name.startswith(prefix)}
    tuned.load_state_dict(kept, strict=False)
    written = {name: tensor for name, tensor in tuned.state_dict().items() if name in kept}
    tuned.save_pretrained(folder, state_dict=written)
    loaded.tokenizer.save_pretrained(folder)
    tuned.load_state_dict(head, strict=False)
    return tuned


def save_head(model: nn.Module, path: Path) -> None:
    """Write the weights of the task head; none for a language model."""
    save_file({name: tensor.contiguous() for name, tensor in _head(model).items()}, path)


def _head(model: Any) -> dict[str, Tensor]:
    inside = tuple(f"{name}." for name in head_modules(model))
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(inside)} if inside else {}


def _labels(weights: Path, tuned: Any) -> int | None:
    return adapter_labels(weights) if is_adapter(weights) else getattr(tuned.config, "num_labels", None)
