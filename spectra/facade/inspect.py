"""`spectra.inspect`: what is in a checkpoint, and which of its matrices would be compared."""

from dataclasses import replace
from pathlib import Path

from spectra.errors import CheckpointError
from spectra.records.inspection import Inspection
from spectra.records.selection import DEFAULT, Selection
from spectra.scanning.inspection import inspection
from spectra.weights import verify_checkpoint
from spectra.weights.opening import open_to_inspect
from spectra.weights.streams.opened import opened_once


def inspect(
    checkpoint: str | Path,
    base: str | Path | None = None,
    *,
    selection: Selection = DEFAULT,
    verify: bool = False,
) -> Inspection:
    """Show what is in a checkpoint and which of its matrices would be compared; reads headers only.

    Of a model of the hub that is not in the local cache nothing else is fetched, unless `verify` needs all of it.

    For an adapter without a named base there is the spectrum of every update, and what cannot be said without W0.

    Args:
        checkpoint: An adapter or a full checkpoint: folder, file or hub id.
        base: The pre-trained checkpoint, if it is at hand.
        selection: Which matrices, and how the files are opened.
        verify: Load base and tuned model with transformers and peft as well, and hold every matrix against them; both
            must fit into memory.

    Raises:
        CheckpointError: If a file is missing or broken, or cannot be verified.
        AdapterError: If the adapter is incomplete or of an unknown kind.

    Example:
        >>> found = spectra.inspect(adapter)
        >>> found.method, found.trained_parameters
        ('lora', 1024)
        >>> found.to_dataframe()["rank"].unique().tolist()
        [2]
    """
    if verify and selection.split_fused:
        raise CheckpointError("verify holds whole matrices against the models. Leave out split_fused.")
    with opened_once():
        found = inspection(checkpoint, base, selection=selection if verify else selection.streaming)
    if not verify:
        return found
    verification = verify_checkpoint(open_to_inspect(checkpoint, base, selection), selection=selection)
    return replace(found, verification=verification.to_dict())
