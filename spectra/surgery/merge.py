"""`spectra.merge`: several adapters of one base as one, with a forecast of what that does to the spectra."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from spectra.engine.cache import FactorCache
from spectra.errors import AdapterError, SpectrumError, first_five
from spectra.forgetting import HeldOut
from spectra.records.merge import Merge
from spectra.records.provenance import versions
from spectra.records.selection import DEFAULT, Selection
from spectra.records.verdicts import Skipped
from spectra.scanning.compare import by_name, require_one_base, require_same_base
from spectra.scanning.scan import Progress
from spectra.scanning.settings import ScanSettings
from spectra.storage.destinations import require_apart, require_folder
from spectra.surgery.counting import counted
from spectra.surgery.forecast import forecast_matrix, pairs_of
from spectra.surgery.measuring import measured, require_inputs
from spectra.surgery.merged import (
    MergedUpdate,
    merged_update,
    parts_of,
    write_merged_adapter,
    write_merged_checkpoint,
)
from spectra.surgery.rank_choice import RankChoice
from spectra.weights import CheckpointPair, Origin, base_fingerprint, open_pair
from spectra.weights.methods.changes import LoraChange


def merge(
    adapters: Sequence[str | Path],
    *,
    weights: Sequence[float] | None = None,
    base: str | Path | None = None,
    selection: Selection = DEFAULT,
    out: str | Path | None = None,
    checkpoint: str | Path | None = None,
    rank: int | None = None,
    energy: float | None = None,
    error: float | None = None,
    parameters: int | None = None,
    k: int = 10,
    epsilon: float = 0.5,
    top: int = 8,
    draws: int = 99,
    critical: bool = True,
    heldout: Sequence[HeldOut] = (),
    batch_size: int = 16,
    device: str = "cpu",
    seed: int = 0,
    force: bool = False,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Merge:
    """Forecast what W0 + sum_i w_i delta_W_i does to the spectra, and write it where that is asked for.

    Args:
        adapters: At least two LoRA adapters of one base.
        weights: One per adapter; 1 for each by default.
        base: Their base; by default the one that they name.
        selection: Which matrices are merged, and how the files are opened, of every adapter alike.
        out: Write the merged adapter here: the factors stacked, or resized where one of the next four is given.
        checkpoint: Write the merged full checkpoint here.
        rank: Resize to this rank; at most one of this and the next three is given.
        energy: Resize: per matrix the smallest rank that keeps this share of the merged update's squared norm.
        error: Resize: per matrix the smallest rank that leaves out singular values up to this share of the largest.
        parameters: Resize: numbers in all factors.
        k: Leading vectors per matrix.
        epsilon: Cosine below which a vector counts, and below which a merged intruder resembles no single one.
        top: Leading directions of each update behind the overlaps.
        draws: Simulated pairs of random subspaces behind each overlap.
        critical: Search the scale of the merged update at which the first new intruder appears.
        heldout: Held-out tasks on which every adapter and the merge are measured.
        batch_size: Texts per forward pass.
        device: torch device.
        seed: Of the simulations and the bootstrap.
        force: Replace existing folders that spectra wrote.
        cache: Where factors of W0 are kept between scans.
        progress: Called with (matrices done, all, name).
        say: Called with one line per measurement.

    Raises:
        AdapterError: If an adapter is no plain LoRA.
        CheckpointError: If the adapters have different bases, or a file cannot be read.
        SpectrumError: If a setting has no meaning.
        DestinationError: If a destination exists and `force` is not given.

    Example:
        >>> forecast = spectra.merge([adapter, other_adapter], weights=[1.0, 0.5], k=4, draws=9, critical=False)
        >>> len(forecast.to_dataframe()) == len(spectra.open_pair(None, adapter).matrices)
        True
    """
    scales = _weights(adapters, weights)
    choice = _choice(rank, energy, error, parameters, out)
    if top < 1 or draws < 1:
        raise SpectrumError(f"top is {top} and draws is {draws}, but both are at least 1. Use for instance 8 and 99.")
    settings = ScanSettings(k=k, epsilon=epsilon, device=device, seed=seed)
    inputs = [Path(str(named)) for named in (*adapters, base) if named is not None]
    destinations = [
        (place, kind) for place, kind in ((out, "adapter"), (checkpoint, "checkpoint")) if place is not None
    ]
    require_apart([Path(place) for place, _ in destinations])
    for place, kind in destinations:
        require_folder(Path(place), kind, force=force, inputs=inputs)
    pairs = [open_pair(base, adapter, selection) for adapter in adapters]
    require_same_base(pairs, adapters, selection)
    groups = by_name(pairs)
    for name, places in groups.items():
        require_one_base(name, pairs, places)
    _require_plain(pairs)
    require_inputs([str(adapter) for adapter in adapters], str(pairs[0].base), heldout=heldout, device=device)
    records, interactions, updates = [], [], []
    for done, places in enumerate(groups.values(), start=1):
        parts = list(parts_of(pairs, places, scales, device))
        record, between = forecast_matrix(
            parts, len(adapters), settings, top=top, draws=draws, critical=critical, cache=cache
        )
        records.append(record)
        interactions += between
        updates.append(merged_update(pairs, places, scales))
        if progress is not None:
            progress(done, len(groups), record.name)
    result = Merge(
        adapters=tuple(map(str, adapters)),
        weights=tuple(scales),
        base=str(pairs[0].base),
        k=k,
        epsilon=epsilon,
        top=top,
        matrices=tuple(records),
        pairs=pairs_of(interactions, records),
        out=None if out is None else str(out),
        checkpoint=None if checkpoint is None else str(checkpoint),
        left_behind=tuple(_left_behind(pairs, updates, as_adapter=out is not None)),
        warnings=tuple(dict.fromkeys(warning for pair in pairs for warning in pair.warnings)),
        versions=versions(),
    )
    origin = _origin(result, selection)
    if checkpoint is not None:
        write_merged_checkpoint(Path(checkpoint), result.base, updates, origin, force=force)
    if out is not None or heldout:
        with _folder(out) as folder:
            reduction = write_merged_adapter(folder, result, updates, choice, origin, force=force)
            if choice is not None and reduction is not None:
                merged = replace(pairs[0], matrices=tuple(update.as_pair() for update in updates))
                reduction = counted(reduction, merged, settings, selection, cache=cache)
                result = replace(result, reduction=reduction)
            if heldout:
                named = [*map(str, adapters), str(folder)]
                found = measured(
                    named,
                    result.base,
                    heldout=heldout,
                    device=device,
                    batch_size=batch_size,
                    seed=seed,
                    progress=say,
                )
                shown = tuple(
                    replace(one, checkpoint="merge") if one.checkpoint == str(folder) else one for one in found
                )
                result = replace(result, measured=shown)
    return result


def _weights(adapters: Sequence[str | Path], weights: Sequence[float] | None) -> list[float]:
    if len(adapters) < 2:
        raise SpectrumError(f"{len(adapters)} adapter was given, and merging takes two. Name another one.")
    if len(set(map(str, adapters))) < len(adapters):
        raise SpectrumError("An adapter was given twice. Give it once, with the sum of the weights.")
    scales = [1.0] * len(adapters) if weights is None else [float(weight) for weight in weights]
    if len(scales) != len(adapters):
        raise SpectrumError(f"{len(scales)} weights were given for {len(adapters)} adapters. Give one for each.")
    if not all(-100 <= weight <= 100 and weight != 0 for weight in scales):
        raise SpectrumError(f"The weights are {scales}, but each is a number other than 0, at most 100. Correct them.")
    return scales


def _choice(
    rank: int | None, energy: float | None, error: float | None, parameters: int | None, out: str | Path | None
) -> RankChoice | None:
    if all(value is None for value in (rank, energy, error, parameters)):
        return None
    if out is None:
        raise SpectrumError("A rank was chosen and no folder for the merged adapter was named. Give out.")
    return RankChoice(rank, energy, error, parameters)


def _require_plain(pairs: Sequence[CheckpointPair]) -> None:
    """Refuse a change that is not scaling * B @ A.

    Raises:
        AdapterError: With the adapter and the matrix.
    """
    for pair in pairs:
        other = [str(matrix.name) for matrix in pair.matrices if not isinstance(matrix.change, LoraChange)]
        if other:
            raise AdapterError(
                f"'{pair.checkpoint}' ({pair.method}) changes {first_five(other)} by more than factors, and only plain "
                "LoRA is merged. Extract one from it with `spectra extract`, or leave these out with exclude."
            )


def _left_behind(
    pairs: Sequence[CheckpointPair], updates: Sequence[MergedUpdate], *, as_adapter: bool
) -> Iterator[Skipped]:
    for pair in pairs:
        for one in pair.skipped:
            if "whole" in one.reason or "head" in one.reason:
                yield Skipped(f"{pair.checkpoint}: {one.name}", one.reason)
    for update in updates if as_adapter else ():
        if update.module is None:
            yield Skipped(str(update.pair.name), "an expert's factors, which no plain LoRA holds; write the checkpoint")


def _origin(result: Merge, selection: Selection) -> Origin:
    words = " + ".join(f"{weight:g} * {name}" for weight, name in zip(result.weights, result.adapters, strict=True))
    fingerprint = base_fingerprint(result.base, selection.base_revision, allow_pickle=selection.allow_pickle)
    return Origin(result.base, fingerprint, f"spectra merge ({words})", words)


@contextmanager
def _folder(out: str | Path | None) -> Iterator[Path]:
    """Where the merged adapter is written: the folder that was named, or one for the measurement alone."""
    if out is not None:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "merge"
