"""A checkpoint format: the arrays of a NumPy .npz file."""

from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch

from spectra.errors import CheckpointError
from spectra.weights.formats.memory import TensorInMemory
from spectra.weights.formats.named import NamedTensors
from spectra.weights.formats.table import CheckpointFormat


def open_npz(path: Path) -> NamedTensors:
    """Every array by its name; nothing is unpickled."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    except (OSError, ValueError, BadZipFile) as error:
        raise CheckpointError(f"'{path}' is no file of plain arrays ({error}). Save it with numpy.savez.") from error
    return NamedTensors({name: _tensor(path, name, tensor) for name, tensor in found.items()})


def _tensor(path: Path, name: str, tensor: torch.Tensor) -> TensorInMemory:
    return TensorInMemory(name, tuple(tensor.shape), tensor.dtype, lambda: tensor, path)


NPZ = CheckpointFormat(
    "npz",
    (".npz",),
    lambda head, path: path.suffix == ".npz" and head.startswith(b"PK"),
    open_npz,
    False,
    "arrays of a NumPy .npz file",
)
