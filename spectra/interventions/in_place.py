"""Apply edits to a loaded model and take them back exactly: an intervention is measured without any checkpoint."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spectra.errors import ModelError, first_five
from spectra.interventions.deltas import Delta, on


@contextmanager
def edited(model: nn.Module, edits: Mapping[str, Delta]) -> Iterator[nn.Module]:
    """Add an edit to some weights of a model for as long as the context lasts.

    W -> W + edit  in (d_out, d_in), edit = scaling * B @ A or dense; a Conv1D weight, stored (d_in, d_out), gets the
    transposed edit.
    The former values are kept and copied back, bit for bit, also when the body raises.

    Args:
        model: A model that computes with W_tuned: a full checkpoint, or a base with its adapter, merged or beside it
            (the edit then goes into the base's weight).
        edits: By module, under any ending of its name that only one module has, such as the canonical name.

    Yields:
        The same model.

    Raises:
        ModelError: If a module is unknown or ambiguous, has no matrix, is quantised, or differs in shape.

    Cost: a copy of each edited weight; O(d_out d_in rank) for the edit.
    """
    weights = {name: _weight(model, name) for name in edits}
    shared = [name for name, weight in weights.items() if sum(weight is other for other in weights.values()) > 1]
    if shared:
        raise ModelError(f"{first_five(shared)} share one weight (tied). Edit it under one name.")
    for name, edit in edits.items():
        _require_fit(name, _matrix(model, name), edit)
    former = {name: weight.detach().clone() for name, weight in weights.items()}
    try:
        with torch.no_grad():
            for name, edit in edits.items():
                matrix = _matrix(model, name)
                # The product is rounded once, to the weight's dtype, however coarse that is.
                wide = torch.promote_types(matrix.dtype, torch.float32)
                matrix.copy_(matrix.to(wide) + on(edit, dtype=wide, device=matrix.device))
        yield model
    finally:
        with torch.no_grad():
            for name, weight in weights.items():
                weight.copy_(former[name])


def _module(model: nn.Module, name: str) -> nn.Module:
    found = {path: module for path, module in model.named_modules() if f".{path}".endswith(f".{name}")}
    if len(found) > 1 and name in found:
        return _unwrapped(found[name])
    if len(found) != 1:
        told = f"fits {len(found)} modules: {first_five(list(found))}" if found else "is no module of the model"
        raise ModelError(f"'{name}' {told}. Give the full name of one module.")
    return _unwrapped(next(iter(found.values())))


def _unwrapped(module: nn.Module) -> nn.Module:
    """The layer itself where peft stands before it: only that one tells how its weight is laid out."""
    while isinstance(inner := getattr(module, "base_layer", None), nn.Module):
        module = inner
    return module


def _weight(model: nn.Module, name: str) -> Tensor:
    weight = getattr(_module(model, name), "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim < 2 or not weight.is_floating_point():
        raise ModelError(f"'{name}' has no floating-point weight matrix to edit. Load the model unquantised.")
    return weight


def _matrix(model: nn.Module, name: str) -> Tensor:
    """The weight as a (d_out, d_in) view of itself."""
    weight = _weight(model, name).detach()
    # transformers' Conv1D keeps (d_in, d_out); this room imports no transformers, so the class is known by its name.
    return weight.mT if type(_module(model, name)).__name__ == "Conv1D" else weight.view(weight.shape[0], -1)


def _require_fit(name: str, matrix: Tensor, edit: Delta) -> None:
    if tuple(matrix.shape) != edit.shape:
        raise ModelError(
            f"The edit of '{name}' is {edit.shape}, and its weight {tuple(matrix.shape)} as (d_out, d_in). "
            "Check that the edit was made for this model."
        )
