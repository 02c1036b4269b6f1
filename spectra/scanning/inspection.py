"""What is in a checkpoint, with the spectrum of every update of an adapter from its factors alone."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.svd import low_rank_svd, thin_svd
from spectra.metrics.ranks import effective_rank, stable_rank
from spectra.records.inspection import Inspection
from spectra.records.selection import DEFAULT, Selection
from spectra.weights.dialects.foreign import NamedChange
from spectra.weights.dialects.products import ProductChange
from spectra.weights.formats.hub import locate_locally
from spectra.weights.matching.inventory import inventory
from spectra.weights.methods.changes import Change, DoraChange, LoraChange
from spectra.weights.opening import open_to_inspect
from spectra.weights.pair import CheckpointPair
from spectra.weights.streams.opened import shown_name
from spectra.weights.updates import AdapterUpdates, open_updates

BASE_NEEDED = (
    "Intruder dimensions, norms relative to W0 and everything else that compares with the pre-trained weights need the "
    "base: name it with --base."
)


def inspection(checkpoint: str | Path, base: str | Path | None = None, *, selection: Selection = DEFAULT) -> Inspection:
    """What is in a checkpoint.

    For an adapter without a named base it has `updates`, one entry per module with rank, scaling, norms, effective and
    stable rank and singular values, and `needs_base`, what cannot be said without W0. The matrices of the base are
    listed where it is named, or lies on this machine.

    Cost: headers only; the updates of an adapter cost O((d_out + d_in) rank^2) each, and a full SVD where they are
    Hadamard or Kronecker products.

    Args:
        checkpoint: An adapter or a full checkpoint: folder, file or hub id.
        base: The pre-trained checkpoint, if it is at hand.
        selection: Which matrices, and how the files are opened.

    Raises:
        CheckpointError: If a file is missing or broken, or a factor holds NaN or infinity.
        AdapterError: If the adapter is incomplete or of an unknown kind.
    """
    updates = open_updates(checkpoint, selection=selection) if base is None else None
    if updates is None:
        return inventory(open_to_inspect(checkpoint, base, selection))
    entries = [_entry(change) for change in updates.changes]
    if updates.base is not None and locate_locally(updates.base) is not None:
        found = inventory(open_to_inspect(checkpoint, None, selection))
        needed = [asdict(skipped) for skipped in updates.needs_base]
    else:
        found = inventory(_alone(updates))
        needed = [{"name": shown_name(checkpoint), "reason": BASE_NEEDED}, *map(asdict, updates.needs_base)]
    return replace(found, format=updates.kind, updates=entries, needs_base=needed)


def _alone(updates: AdapterUpdates) -> CheckpointPair:
    """An adapter without any matrix of a base."""
    return CheckpointPair(
        updates.base,
        updates.location,
        "adapter",
        updates.method,
        (),
        trained_parameters=updates.trained_parameters,
        nbytes=updates.nbytes,
    )


def _entry(named: NamedChange) -> dict[str, Any]:
    S = _singular_values(named.change)
    settings = named.change.lora
    return {
        "module": f"{named.component}.{named.module}" if named.component else named.module,
        "shape": list(named.shape),
        "rank": settings.rank if settings else None,
        "alpha": settings.alpha if settings else None,
        "scaling": settings.scaling if settings else None,
        "parameters": named.change.parameters,
        "frobenius": float(S.square().sum().sqrt()),
        "spectral": float(S.max()) if len(S) else 0.0,
        "effective_rank": effective_rank(S),
        "stable_rank": stable_rank(S),
        "singular_values": S.tolist(),
    }


def _singular_values(change: Change) -> Float[Tensor, " n"]:
    """Decreasing, in float64; of the direction alone under DoRA."""
    if isinstance(change, DoraChange):
        return _singular_values(change.inner)
    if isinstance(change, ProductChange):
        return thin_svd(change.delta_W(torch.float64, "cpu")).S
    if not isinstance(change, LoraChange):
        raise TypeError(f"{type(change).__name__} is no update that an adapter holds by itself")
    update = change.factors(torch.float64, "cpu")
    return low_rank_svd(update.B, update.A, update.scaling).S
