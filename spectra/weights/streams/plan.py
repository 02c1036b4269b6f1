"""What a scan will read from afar: which ranges of which files, and how many bytes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property

from spectra.weights.formats.byte_source import Span
from spectra.weights.formats.safetensors_file import SafetensorsTensor
from spectra.weights.formats.stored import RowBlock, StoredMatrix, StoredTensor
from spectra.weights.pair import CheckpointPair, MatrixPair
from spectra.weights.streams.far_file import FarFile
from spectra.weights.streams.held import HELD
from spectra.weights.streams.opened import traffic_of


@dataclass(frozen=True)
class Read:
    """Rows of one tensor of a distant file.

    Attributes:
        file: The file.
        span: The tensor, or the expert of it, that they are rows of.
        first: The first row.
        last: One past the last.
        nbytes: Their bytes.
    """

    file: FarFile
    span: Span
    first: int
    last: int
    nbytes: int

    @property
    def is_whole(self) -> bool:
        """True where the rows are all of the span."""
        return self.nbytes == self.span[1] - self.span[0]


@dataclass(frozen=True)
class StreamPlan:
    """What will be read, once, of distant files.

    Attributes:
        reads: Each part of a tensor once.
    """

    reads: tuple[Read, ...]

    @classmethod
    def of(cls, pairs: Iterable[CheckpointPair]) -> "StreamPlan":
        """The plan of a scan of these checkpoints."""
        return cls(
            tuple(dict.fromkeys(read for pair in pairs for matrix in pair.matrices for read in reads_of(matrix)))
        )

    @cached_property
    def files(self) -> tuple[FarFile, ...]:
        """The files, each once."""
        return tuple(dict.fromkeys(read.file for read in self.reads))

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all parts."""
        return sum(read.nbytes for read in self.reads)

    @cached_property
    def version(self) -> tuple[tuple[str, str], ...]:
        """The files with their versions: equal in two processes exactly when they read the same."""
        return tuple(sorted((str(file.shown), file.version) for file in self.files))

    def arrived(self) -> dict[str, int]:
        """What has been read in this process until now."""
        counts = traffic_of(self.files)
        return {
            "read_bytes": sum(traffic.read_bytes for traffic in counts),
            "requests": sum(traffic.requests for traffic in counts),
            "retries": sum(traffic.retries for traffic in counts),
        }

    def to_dict(self) -> dict[str, int]:
        """Counts for the record of a result."""
        tensors = len({(read.file, read.span) for read in self.reads})
        planned = {"files": len(self.files), "tensors": tensors, "planned_bytes": self.nbytes}
        return {**planned, **self.arrived()}

    @property
    def sentence(self) -> str:
        """What will be read, for a reader who waits for it."""
        counts = self.to_dict()
        return (
            f"Reading {counts['planned_bytes']:,} bytes of {counts['tensors']} tensors in {counts['files']} files from "
            f"where they lie ({counts['read_bytes']:,} bytes of headers and texts were read); nothing is downloaded."
        )


def reads_of(matrix: MatrixPair) -> Iterator[Read]:
    """What is read of distant files for one matrix and its change."""
    for block, tensor in stored_in((matrix.W0, matrix.change)):
        if isinstance(tensor, SafetensorsTensor) and isinstance(tensor.source, FarFile):
            if block is not None and block.tensor is tensor:
                nbytes = block.rows * block.d_in * tensor.dtype.itemsize
                yield Read(tensor.source, tensor.span(block.expert), block.start, block.stop, nbytes)
            else:
                yield Read(tensor.source, tensor.span(), 0, 0, tensor.nbytes)


def stored_in(part: object, block: RowBlock | None = None) -> Iterator[tuple[RowBlock | None, StoredTensor]]:
    """The tensors of files in a value, however deep: changes hold matrices, matrices blocks, blocks tensors.

    Args:
        part: A value of dataclasses and containers.
        block: The innermost block of rows that it stands in.

    Returns:
        Each tensor with the block of rows that it is read by.
    """
    if isinstance(part, SafetensorsTensor):
        yield block, part
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from stored_in(value, block)
    elif isinstance(part, tuple | list):
        for value in part:
            yield from stored_in(value, block)
    elif is_dataclass(part) and not isinstance(part, type):
        inner = part if isinstance(part, RowBlock) else block
        found = [each for name in fields(part) for each in stored_in(getattr(part, name.name), inner)]
        if not found and isinstance(part, StoredTensor):
            yield block, part
        yield from found


@dataclass(frozen=True)
class ReadAhead:
    """Reads the tensors of the next group of matrices while one is computed, within the bound of what is held.

    Attributes:
        groups: The matrices of each group, in the order in which the groups are scanned.
    """

    groups: Sequence[Sequence[MatrixPair]]

    @cached_property
    def _spans(self) -> list[list[tuple[FarFile, Span]]]:
        return [
            list(
                dict.fromkeys((read.file, read.span) for matrix in group for read in reads_of(matrix) if read.is_whole)
            )
            for group in self.groups
        ]

    def begin(self, group: int) -> None:
        """Begin to read what this group needs, and then what the next one does."""
        for spans in self._spans[group : group + 2]:
            for file, span in spans:
                HELD.ahead(file, span)

    def end(self, group: int) -> None:
        """Hold no longer what this group needed."""
        for file, span in self._spans[group]:
            HELD.release(file, span)


def is_far(matrix: StoredMatrix) -> bool:
    """True for a matrix of which some part lies in a distant file."""
    return any(
        isinstance(tensor, SafetensorsTensor) and isinstance(tensor.source, FarFile) for _, tensor in stored_in(matrix)
    )
