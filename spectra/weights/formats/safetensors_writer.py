"""Write a safetensors file, one tensor in memory at a time."""

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spectra.weights.formats.safetensors_file import DTYPES


@dataclass(frozen=True, eq=False)
class TensorToWrite:
    """A tensor that is computed when it is written.

    Attributes:
        name: Name in the file.
        dtype: Storage dtype.
        shape: Shape.
        produce: Gives the tensor.
    """

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    produce: Callable[[], Tensor]

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> "TensorToWrite":
        """A tensor that is already there."""
        return cls(name, tensor.dtype, tuple(tensor.shape), lambda: tensor)

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_safetensors(path: Path, entries: Sequence[TensorToWrite]) -> None:
    """Write a safetensors file, one tensor in memory at a time, and force it to the disk.

    Raises:
        ValueError: If a produced tensor has not the announced dtype and shape.
    """
    codes = {dtype: code for code, dtype in DTYPES.items()}
    # Wide dtypes first, as the format's own writer does, so that every tensor starts at a multiple of its item size.
    ordered = sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for entry in ordered:
        header[entry.name] = {
            "dtype": codes[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [offset, offset + entry.nbytes],
        }
        offset += entry.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for entry in ordered:
            tensor = entry.produce().detach().cpu().contiguous()
            if tensor.dtype != entry.dtype or tuple(tensor.shape) != entry.shape:
                raise ValueError(f"'{entry.name}' was announced as {entry.dtype} {entry.shape}")
            stream.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
        stream.flush()
        os.fsync(stream.fileno())
