"""The matrices of a checkpoint: which tensors are linear maps, which way round, under which module."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from spectra.errors import CheckpointError, first_five
from spectra.weights.formats.checkpoint import Checkpoint
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.matching.architecture import Architecture
from spectra.weights.matching.layout import Layout, alternating
from spectra.weights.matching.names import layer_of, module_of


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The matrices of a checkpoint.

    Attributes:
        checkpoint: Where they come from.
        matrices: By module; expert e of a 3-D tensor `experts.down_proj` is `experts.e.down_proj`.
        unread: Tensors with two axes and more that are read as no matrix, and why.
        unknown: Those of them that may hold a matrix whose layout nobody knows.
        set_aside: Matrices that are compared only when they are asked for by name, and why.
        architecture: What transformers knows of the family.
    """

    checkpoint: Checkpoint
    matrices: Mapping[str, StoredMatrix]
    unread: Mapping[str, str] = field(default_factory=dict)
    unknown: frozenset[str] = frozenset()
    set_aside: Mapping[str, str] = field(default_factory=dict)
    architecture: Architecture = field(default_factory=lambda: Architecture({}))

    @property
    def has_blocks(self) -> bool:
        """False for a model without numbered blocks."""
        return any(layer_of(module) is not None for module in self.matrices)

    def alternating(self, module: str) -> bool | None:
        """True where rows of gate and up alternate in a fused matrix; None where nobody knows."""
        (block, *others) = self.matrices[module].blocks
        return False if others else alternating(self.architecture, block.tensor)


def catalogue(checkpoint: Checkpoint) -> Catalogue:
    """Find the matrices of a checkpoint.

    Raises:
        CheckpointError: If weights were left out of the file, or two tensors are the same one.
    """
    _require_whole(checkpoint)
    layout = Layout(checkpoint.tensors, Architecture(checkpoint.config))
    found: dict[str, StoredMatrix] = {}
    unread: dict[str, str] = {}
    unknown: set[str] = set()
    set_aside: dict[str, str] = {}
    for name, tensor in checkpoint.tensors.items():
        reading = layout.read(name, tensor)
        if reading.reason:
            unread[module_of(name)] = reading.reason
        if reading.unknown:
            unknown.add(module_of(name))
        for module, matrix in reading.matrices:
            if module in found:
                raise CheckpointError(
                    f"'{found[module].blocks[0].tensor.name}' and '{name}' of '{checkpoint.location}' are both "
                    f"'{module}' once wrappers are taken off. Save the checkpoint again without them."
                )
            found[module] = matrix
            if reading.set_aside:
                set_aside[module] = reading.set_aside
    ordered = dict(sorted(found.items(), key=lambda item: natural_order(item[0])))
    return Catalogue(checkpoint, ordered, unread, frozenset(unknown), set_aside, layout.architecture)


def natural_order(module: str) -> tuple[tuple[int, int | str], ...]:
    """A key that puts layer 2 before layer 10."""
    return tuple((0, int(part)) if part.isdigit() else (1, part) for part in module.split("."))


def _require_whole(checkpoint: Checkpoint) -> None:
    """Refuse tensors that hold nothing, or all parameters of a shard in one vector: the weights are elsewhere."""
    empty = [name for name, tensor in checkpoint.tensors.items() if 0 in tensor.shape]
    if empty:
        raise CheckpointError(
            f"'{checkpoint.location}' holds {len(empty)} empty tensors ({first_five(empty)}): DeepSpeed ZeRO-3 leaves "
            "weights out that were not gathered when it saved. Make the whole checkpoint with zero_to_fp32.py."
        )
    flat = [name for name in checkpoint.tensors if name.rpartition(".")[2] in ("_flat_param", "flat_param")]
    if flat:
        raise CheckpointError(
            f"'{checkpoint.location}' holds the flattened parameters of FSDP ({first_five(flat)}), whose matrices "
            "cannot be told apart. Save a full state dict (StateDictType.FULL_STATE_DICT)."
        )
