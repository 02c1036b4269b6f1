"""Old .bin files: pickles, opened only when the user allows it, and then by torch's restricted loader."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from spectra.errors import CheckpointError
from spectra.weights.formats.safetensors_file import FileState


@dataclass(frozen=True, eq=False)
class PickledTensor:
    """A tensor of a .bin file; its storage stays mapped, so only what is read takes memory."""

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


def open_pickle(path: Path, *, allow_pickle: bool) -> Mapping[str, PickledTensor]:
    """The tensors of a .bin file.

    Raises:
        CheckpointError: If pickles were not allowed, or the file holds anything but named tensors.
    """
    if not allow_pickle:
        raise CheckpointError(
            f"'{path}' is a pickle, which can run code when it is opened. "
            "Convert it to safetensors, or trust it with --allow-pickle."
        )
    state = FileState.of(path)
    try:
        try:
            value = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError):  # the format before torch 1.6 cannot be mapped
            value = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, AttributeError, pickle.UnpicklingError) as error:
        reason = str(error).split("\n")[0].rstrip(". ") or type(error).__name__
        raise CheckpointError(f"'{path}' cannot be opened safely ({reason}). Convert it to safetensors.") from error
    if not isinstance(value, dict) or not all(isinstance(tensor, Tensor) for tensor in value.values()):
        raise CheckpointError(f"'{path}' holds something other than named tensors. Convert it to safetensors.")
    return {str(name): PickledTensor(str(name), path, tensor.detach(), state) for name, tensor in value.items()}
