"""One safetensors file: its header checked to the last byte, its tensors read only where they are asked for."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spectra.errors import CheckpointError
from spectra.storage.json_file import distinct
from spectra.storage.regular import open_regular
from spectra.weights.formats.byte_source import ByteSource, FileState, LocalFile, Span
from spectra.weights.streams.opened import stream_of

# A quarter of what the format's own library reads, a hundred times the header of any model: parsed in seconds.
MAX_HEADER_BYTES = 25_000_000

MAX_AXES = 64

DTYPES: Mapping[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F8_E8M0": torch.float8_e8m0fnu,
    "C64": torch.complex64,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True)
class SafetensorsTensor:
    """One tensor of a safetensors file, known by its place; read in whole or in part on demand.

    Attributes:
        name: Name in the file.
        path: The file.
        shape: Shape as stored.
        dtype: Storage dtype.
        offset: First byte of the data in the file.
        source: Where its bytes come from.
    """

    name: str
    path: Path
    shape: tuple[int, ...]
    dtype: torch.dtype
    offset: int
    source: ByteSource

    def span(self, expert: int | None = None) -> Span:
        """First byte of the data in the file, and one past the last; of one expert where one is named."""
        if expert is None:
            return self.offset, self.offset + self.nbytes
        size = self.nbytes // max(1, self.shape[0])
        return self.offset + expert * size, self.offset + (expert + 1) * size

    @property
    def nbytes(self) -> int:
        """Bytes of the data."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self) -> Tensor:
        """The whole tensor in its storage dtype."""
        return self._block(0, self.shape).reshape(self.shape)

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Rows [start, stop) along the first axis, of one expert where the first axis counts experts."""
        shape = self.shape if expert is None else self.shape[1:]
        row = math.prod(shape[1:])
        first = (0 if expert is None else expert * math.prod(shape)) + start * row
        return self._block(first, (stop - start, *shape[1:]), expert)

    def read_columns(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Columns [start, stop) of a matrix, reading no byte of the others."""
        n_rows, n_columns = self.shape if expert is None else self.shape[1:]
        if (start, stop) == (0, n_columns):
            return self.read_rows(0, n_rows, expert)
        base = (0 if expert is None else expert * n_rows * n_columns) + start
        width = stop - start
        columns = torch.empty(n_rows, width, dtype=self.dtype)
        target = columns.view(torch.uint8).numpy()
        size, step = self.offset + base * self.dtype.itemsize, n_columns * self.dtype.itemsize
        self.source.fill([(size + row * step, target[row].data) for row in range(n_rows)], self.span(expert), self.name)
        return columns

    def read_numbers(self, first: int, count: int) -> Tensor:
        """Some numbers in the order of the file, from number `first` on."""
        return self._block(first, (count,))

    def content_key(self) -> str:
        """File, version and place of a tensor that is read from afar; "" for one on this machine."""
        version = getattr(self.source, "version", "")
        return f"{version} {self.path} {self.span()}" if version else ""

    def _block(self, first: int, shape: tuple[int, ...], expert: int | None = None) -> Tensor:
        """A contiguous run of elements, from element `first` of the tensor."""
        block = torch.empty(shape, dtype=self.dtype)
        if block.numel():
            buffer = block.reshape(-1).view(torch.uint8).numpy().data
            self.source.fill([(self.offset + first * self.dtype.itemsize, buffer)], self.span(expert), self.name)
        return block


@dataclass(frozen=True)
class SafetensorsFile:
    """The checked header of a safetensors file."""

    path: Path
    tensors: Mapping[str, SafetensorsTensor]
    metadata: Mapping[str, str]


def open_safetensors(path: Path) -> SafetensorsFile:
    """Read and check the header of a safetensors file.

    Every tensor must have a known dtype, a shape whose size is exactly its byte range, and a range inside the file;
    ranges must neither overlap nor leave a hole, and names must be unique.

    Raises:
        CheckpointError: If any of this does not hold, naming the file, the tensor and the remedy.
    """
    streamed = stream_of(path)
    if streamed is not None:
        path = streamed.shown
        text = _header(path, streamed.size, streamed.head)
    else:
        local, text = _opened(path)
    source: ByteSource = streamed or local
    header = _parse(path, text)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(f"The __metadata__ of '{path}' holds other values than texts. Save the file again.")
    start = 8 + len(text)
    tensors = {name: _tensor(path, name, entry, start, source) for name, entry in header.items()}
    _check_layout(path, tensors, start, source.size)
    return SafetensorsFile(path, tensors, metadata)


def _opened(path: Path) -> tuple[LocalFile, bytes]:
    """A file on this machine, and the text of its header."""
    try:
        state = FileState.of(path)
        with open_regular(path, CheckpointError) as stream:
            text = _header(path, state.size, lambda start, stop: stream.read(stop - start))
    except OSError as error:
        raise CheckpointError(
            f"'{path}' cannot be read ({error.strerror}). Check the path and its permissions."
        ) from error
    return LocalFile(path, state), text


def _header(path: Path, size: int, read: Callable[[int, int], bytes]) -> bytes:
    """The text of the header; the file is read from its beginning on.

    Args:
        path: The file, for messages.
        size: Its size.
        read: Bytes from one place to another, asked for in order.

    Raises:
        CheckpointError: If the length that the file claims cannot be right.
    """
    length = int.from_bytes(read(0, min(8, size)), "little")
    if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
        raise CheckpointError(_truncated(path, size, length))
    return read(8, 8 + length)


def _truncated(path: Path, size: int, length: int) -> str:
    if size == 0:
        return f"'{path}' is empty (0 bytes). Download or save it again."
    return (
        f"'{path}' is no safetensors file or is truncated: its header claims {length} bytes and the file has {size}. "
        "Download or save it again."
    )


def _parse(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=distinct)
        if not isinstance(header, dict):
            raise ValueError(f"it holds a {type(header).__name__}")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"The header of '{path}' is no valid safetensors header ({error}). Download or save the file again."
        ) from error
    return header


def _tensor(path: Path, name: str, entry: object, start: int, source: ByteSource) -> SafetensorsTensor:
    def wrong(about: str, remedy: str = "Download or save the file again.") -> CheckpointError:
        return CheckpointError(f"The header of '{path}' is wrong about tensor '{name}': {about}. {remedy}")

    match entry:
        case {"dtype": str(code), "shape": [*shape], "data_offsets": [int(begin), int(end)]}:
            pass
        case _:
            raise wrong("it lacks a dtype, a shape or two offsets")
    if code not in DTYPES:
        raise wrong(f"dtype '{code}' is unknown", "Save the tensor as F32, F16 or BF16.")
    if (
        not all(isinstance(length, int) and not isinstance(length, bool) and 0 <= length < 2**63 for length in shape)
        or len(shape) > MAX_AXES
    ):
        raise wrong(f"{shape!s:.80} is no shape")
    needed = math.prod(shape) * DTYPES[code].itemsize
    if not 0 <= begin <= end or end - begin != needed:
        raise wrong(f"offsets {begin} to {end} hold {end - begin} bytes, shape {shape} needs {needed}")
    if start + end > source.size:
        raise CheckpointError(
            f"'{path}' is truncated: tensor '{name}' ends at byte {start + end} and the file has {source.size}. "
            "Download or save the file again."
        )
    return SafetensorsTensor(name, path, tuple(shape), DTYPES[code], start + begin, source)


def _check_layout(path: Path, tensors: Mapping[str, SafetensorsTensor], start: int, size: int) -> None:
    """Refuse overlapping tensors, holes, and bytes after the last tensor."""
    end, previous = start, "the header"
    for tensor in sorted(tensors.values(), key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset != end:
            word = "overlaps" if tensor.offset < end else "leaves a hole after"
            raise CheckpointError(
                f"The header of '{path}' is wrong about tensor '{tensor.name}': its data {word} that of {previous}. "
                "Download or save the file again."
            )
        end, previous = tensor.offset + tensor.nbytes, f"'{tensor.name}'"
    if end != size:
        raise CheckpointError(
            f"'{path}' has {size - end} bytes after its last tensor. Download or save the file again."
        )
