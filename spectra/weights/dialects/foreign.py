"""What every dialect comes to: changes by module, each of which needs no base."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from spectra.errors import AdapterError
from spectra.weights.formats.rotary import Interleaved
from spectra.weights.formats.stored import StoredMatrix, StoredTensor
from spectra.weights.methods.changes import Change, LoraChange
from spectra.weights.methods.scaling import LoraSettings


@dataclass(frozen=True, eq=False)
class NamedChange:
    """What an adapter does to one module.

    Attributes:
        module: The module, as the adapter calls it, without the name of its component.
        change: The change; it can be computed without W0, up to DoRA's magnitudes.
        shape: (d_out, d_in) of the update.
        component: The part of a pipeline that the module belongs to, such as "unet"; empty for a single model.
        flattened: True when the dots of the module's name were written as underscores.
        interleaved: Whether the rows of the update lie as another program orders queries or keys.
    """

    module: str
    change: Change
    shape: tuple[int, int]
    component: str = ""
    flattened: bool = False
    interleaved: Interleaved = ""


@dataclass(frozen=True, eq=False)
class ForeignAdapter:
    """An adapter that peft did not save.

    Attributes:
        path: As it was found.
        dialect: Name of the dialect.
        changes: By module, in file order.
        base: The base that it names, if it names one.
        method: "lora", "loha", ... as `spectra inspect` prints it.
        whole: Tensors that the adapter saved whole, by name.
        nbytes: Bytes of all its tensors.
    """

    path: Path
    dialect: str
    changes: tuple[NamedChange, ...]
    base: str | None = None
    method: str = "lora"
    whole: Mapping[str, StoredTensor] | None = None
    nbytes: int = 0


def lora_change(
    module: str,
    A: StoredMatrix,
    B: StoredMatrix,
    alpha: float | None = None,
    *,
    path: Path,
    scaling: float | None = None,
) -> LoraChange:
    """Two factors with their settings, checked against each other.

    Args:
        module: For messages.
        A: (rank, d_in) in storage.
        B: (d_out, rank) in storage.
        alpha: Numerator of the scaling; None for a scaling of 1.
        path: For messages.
        scaling: The factor itself, where the dialect stores that.

    Raises:
        AdapterError: If the factors' ranks differ.
    """
    rank = A.shape[0]
    if B.shape[1] != rank:
        raise AdapterError(
            f"The factors of '{module}' in '{path}' have ranks {rank} (A) and {B.shape[1]} (B). Save the adapter again."
        )
    if scaling is not None:
        alpha = scaling * rank
    return LoraChange(A, B, LoraSettings(rank, float(rank) if alpha is None else alpha))


def number(tensor: StoredTensor, path: Path) -> float:
    """The one number of a tensor such as alpha.

    Raises:
        AdapterError: If it holds more, or something else.
    """
    value = tensor.read().reshape(-1)
    if value.numel() != 1 or not bool(value.float().isfinite().all()):
        raise AdapterError(f"'{tensor.name}' in '{path}' is not one finite number. Save the adapter again.")
    return float(value[0])
