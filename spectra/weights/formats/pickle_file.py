"""Pickles (.bin, .pt, .pth, .ckpt): opened only when the user allows it, then by torch's restricted loader."""

import pickle
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from spectra.errors import CheckpointError
from spectra.weights.formats.byte_source import FileState
from spectra.weights.formats.named import NamedTensors

# What a restricted loader says about the first object that it refuses.
REFUSED = re.compile(r"GLOBAL ([\w.]+)")

# Under which keys trainers keep the model's weights, beside the state of the optimiser and the like.
MODEL_KEYS = ("state_dict", "model_state_dict", "model", "module", "weights", "params", "net", "network")

# State dicts lie at most this deep.
MAX_DEPTH = 3


@dataclass(frozen=True, eq=False)
class PickledTensor:
    """A tensor of a pickle; its storage stays mapped, so only what is read takes memory."""

    name: str
    path: Path
    data: Tensor
    state: FileState

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape as stored."""
        return tuple(self.data.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Storage dtype."""
        return self.data.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return self.data.numel() * self.data.element_size()

    def read(self) -> Tensor:
        """The whole tensor, copied out of the mapping."""
        return self._unchanged().clone()

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Rows along the first axis, of one expert where the first axis counts experts."""
        data = self._unchanged()
        return (data if expert is None else data[expert])[start:stop].clone()

    def read_columns(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Columns of a matrix."""
        data = self._unchanged()
        return (data if expert is None else data[expert])[:, start:stop].clone()

    def _unchanged(self) -> Tensor:
        # The mapping must not be touched once the file shrank: the process would die of SIGBUS.
        if not self.path.is_file() or FileState.of(self.path) != self.state:
            raise CheckpointError(
                f"'{self.path}' changed while '{self.name}' was read from it. Run again once nothing writes to it."
            )
        return self.data


def open_pickle(path: Path) -> NamedTensors:
    """The tensors of a pickle: a state dict, or what a trainer saved with one inside.

    torch's restricted loader builds tensors, numbers, strings and containers, and calls nothing.

    Raises:
        CheckpointError: If the file holds anything else, or no named tensors.
    """
    state = FileState.of(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on its own arguments, which nobody here can follow
            value = _loaded(path)
    except (
        OSError, EOFError, RuntimeError, ValueError, LookupError, AttributeError, TypeError, pickle.UnpicklingError,
        SafetensorError,
    ) as error:  # fmt: skip
        raise CheckpointError(_refusal(path, error)) from error
    named = _state_dict(value)
    if named is None:
        raise CheckpointError(f"'{path}' holds something other than named tensors. Convert it to safetensors.")
    tensors = {
        str(name): PickledTensor(str(name), path, tensor.detach(), state)
        for name, tensor in named.items()
        if isinstance(tensor, Tensor)
    }
    return NamedTensors(tensors)


def _loaded(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, ValueError):  # the format before torch 1.6 cannot be mapped
        return torch.load(path, map_location="cpu", weights_only=True)


def _refusal(path: Path, error: Exception) -> str:
    found = REFUSED.search(str(error))
    if found:
        return (
            f"'{path}' holds a Python object beside its tensors ({found[1]}), which opening it would have "
            "to run code for. Save only the model's state dict, best as safetensors."
        )
    if "weights_only" in str(error) or isinstance(error, pickle.UnpicklingError):
        return f"'{path}' holds more than tensors, or is damaged, and is not opened. Convert it to safetensors."
    reason = str(error).split("\n")[0].rstrip(". ") or type(error).__name__
    return f"'{path}' cannot be opened safely ({reason}). Convert it to safetensors."


def _state_dict(value: object, depth: int = 0) -> Mapping[Any, Any] | None:
    """The named tensors in what a trainer saved: the value itself, or what it keeps under a usual key."""
    if not isinstance(value, Mapping) or depth > MAX_DEPTH:
        return None
    if any(isinstance(tensor, Tensor) and tensor.ndim > 1 for tensor in value.values()):
        return value
    for key in MODEL_KEYS:
        found = _state_dict(value.get(key), depth + 1)
        if found is not None:
            return found
    return value if value and all(isinstance(tensor, Tensor) for tensor in value.values()) else None
