"""`spectra.resize`: a LoRA adapter at other ranks, exactly, with what that leaves out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from spectra.engine.cache import FactorCache
from spectra.errors import AdapterError, SpectrumError
from spectra.forgetting import HeldOut
from spectra.interventions.adapter_factors import (
    ExchangedFactors,
    edited_config,
    edited_tensors,
    factor_dtype,
    require_editable,
)
from spectra.interventions.own_task import OwnTask
from spectra.linalg.allocation import allocate
from spectra.linalg.eckart_young import RESIDUAL_ROUNDINGS
from spectra.linalg.operators import LowRankUpdate
from spectra.linalg.svd import SVD, low_rank_svd
from spectra.records.provenance import versions
from spectra.records.selection import DEFAULT, Selection
from spectra.records.surgery import ReducedMatrix, Reduction
from spectra.scanning.scan import Progress
from spectra.scanning.settings import ScanSettings
from spectra.storage.destinations import require_folder
from spectra.surgery.counting import counted
from spectra.surgery.measuring import measured, require_inputs
from spectra.surgery.rank_choice import RankChoice
from spectra.weights import CheckpointPair, Origin, StoredMatrix, base_fingerprint, open_pair, write_adapter
from spectra.weights.formats.hub import locate
from spectra.weights.matching.names import canonical_names
from spectra.weights.matching.selection import reason_to_skip, require_known
from spectra.weights.methods.adapter import Adapter, find_adapter, lora_factors, open_adapter
from spectra.weights.methods.changes import LoraChange
from spectra.weights.methods.lora import lora_patterns


@dataclass(frozen=True, eq=False)
class Spectral:
    """The update of one module with its exact SVD, in float64."""

    name: str
    layer: int | None
    role: str
    change: LoraChange
    svd: SVD
    update: LowRankUpdate

    @property
    def squares(self) -> Tensor:
        """Squared singular values, decreasing; those that are rounding of the largest are none."""
        S = self.svd.S
        least = RESIDUAL_ROUNDINGS * torch.finfo(torch.float64).eps * float(S[0]) if S.shape[0] else 0.0
        return S[least < S].square()


def resize(
    adapter: str | Path,
    *,
    out: str | Path,
    base: str | Path | None = None,
    selection: Selection = DEFAULT,
    rank: int | None = None,
    energy: float | None = None,
    error: float | None = None,
    parameters: int | None = None,
    count: bool = True,
    k: int = 10,
    epsilon: float = 0.5,
    heldout: Sequence[HeldOut] = (),
    task: OwnTask | None = None,
    batch_size: int = 16,
    device: str = "cpu",
    seed: int = 0,
    force: bool = False,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Reduction:
    """Write a LoRA adapter at other ranks: the truncated SVD of each update scaling * B A, from its factors.

    The scaling of every module stays what it was (alpha follows the rank, also for rsLoRA), so that the merged update
    is what the singular values say. No matrix of the base's size is formed.

    Args:
        adapter: A LoRA adapter of peft: folder or hub id.
        out: The folder to write.
        base: Its base; needed for counting and measuring only, by default the one that the adapter names.
        selection: Which modules are resized, embeddings too unless it says otherwise, and how the files are opened; the
            others stay as they are.
        rank: The largest rank of every module; exactly one of this and the next three is given.
        energy: Per module the smallest rank that keeps this share of ||delta_W||_F^2.
        error: Per module the smallest rank that leaves out singular values of at most this share of the largest.
        parameters: Numbers in all factors, spread so that the sum of squared errors is least.
        count: Count the intruder dimensions of both; needs the base.
        k: Leading vectors per matrix of these counts.
        epsilon: Cosine below which a vector counts.
        heldout: Held-out tasks on which the forgetting of both is measured.
        task: The task it was tuned on, which both are scored on.
        batch_size: Texts per forward pass.
        device: torch device of counts and measurements.
        seed: Of the bootstrap.
        force: Replace an existing folder that spectra wrote.
        cache: Where factors of W0 are kept between scans.
        progress: Called with (matrices done, all, name).
        say: Called with one line per measurement.

    Raises:
        AdapterError: If it is no adapter, or of a kind whose update is not scaling * B A alone (DoRA, LoHa, ...).
        SpectrumError: If a setting has no meaning.
        DestinationError: If `out` exists and `force` is not given, or it is no adapter that spectra wrote.

    Example:
        >>> smaller = spectra.resize(adapter, out=folder / "smaller", rank=1, count=False)
        >>> set(smaller.to_dataframe()["rank"])
        {1}

    Source: Eckart & Young 1936. Difference: exact, from the QR factors of B and A^T.
    """
    choice = RankChoice(rank, energy, error, parameters)
    settings = ScanSettings(k=k, epsilon=epsilon, device=device, seed=seed)
    opened = _open(adapter, selection)
    require_editable(opened)
    named = base if base is not None else opened.base
    kept = [opened.path, *([Path(named)] if named is not None else [])]
    require_folder(Path(out), "adapter", force=force, inputs=kept)
    everything = replace(selection, include=".", exclude=None, roles=None, layers=None, split_fused=False)
    pair = open_pair(base, adapter, everything) if count else None  # what does not fit is refused before it is written
    base_name = None if named is None else str(named)
    require_inputs([str(adapter)], base_name, heldout=heldout, task=task, device=device)
    updates = spectral_updates(opened, selection)
    if pair is not None:
        updates = _named_as_in_base(updates, pair)
    modules = [(each.name, each.update.shape) for each in updates]
    ranks = chosen_ranks_of([each.squares for each in updates], modules, choice)
    treated = [_resized(each, rank) for each, rank in zip(updates, ranks, strict=True)]
    exchanged = [factors for factors, _ in treated]
    fingerprint: tuple[float, ...] = ()
    if named is not None and count:
        revision = selection.base_revision or opened.revision
        fingerprint = base_fingerprint(named, revision, allow_pickle=selection.allow_pickle)
    origin = Origin(str(named), fingerprint, f"spectra resize ({choice.words()})", str(adapter))
    config, tensors = edited_config(opened, exchanged), edited_tensors(opened, exchanged)
    write_adapter(Path(out), config, tensors, origin, source=opened.path, force=force)
    result = Reduction(
        operation="resize",
        source=str(adapter),
        base=base_name,
        out=str(out),
        rule=choice.words(),
        k=k,
        epsilon=epsilon,
        matrices=tuple(record for _, record in treated),
        warnings=tuple(_warnings(updates)),
        versions=versions(),
    )
    if pair is not None:
        result = counted(result, pair, settings, selection, cache=cache, progress=progress)
    if heldout or task is not None:
        found = measured(
            [str(adapter), str(out)],
            str(named),
            heldout=heldout,
            task=task,
            device=device,
            batch_size=batch_size,
            seed=seed,
            progress=say,
        )
        result = replace(result, measured=found)
    return result


def spectral_updates(adapter: Adapter, selection: Selection = DEFAULT) -> list[Spectral]:
    """The exact SVD of every selected module's update.

    Raises:
        AdapterError: If nothing is selected, or the factors disagree with the configuration.
        CheckpointError: If a role or a layer is selected that no module has.
    """
    chosen = replace(selection, include=selection.include or ".")
    patterns = lora_patterns(adapter)
    factors = lora_factors(adapter)
    names = canonical_names([each.module for each in factors])
    require_known(chosen, list(names.values()))
    found = []
    for each in factors:
        name = names[each.module]
        if reason_to_skip(chosen, name, has_blocks=True) is not None:
            continue
        A = StoredMatrix.of(each.B if each.is_embedding else each.A, transposed=each.is_embedding)
        B = StoredMatrix.of(each.A if each.is_embedding else each.B, transposed=each.is_embedding)
        settings = patterns.settings(each.module)
        if (A.shape[0], B.shape[1]) != (settings.rank, settings.rank):
            raise AdapterError(
                f"The factors of '{each.module}' in '{adapter.file}' have ranks {A.shape[0]} (A) and {B.shape[1]} (B), "
                f"and its configuration says {settings.rank}. Save the adapter again."
            )
        change = LoraChange(A, B, settings)
        update = change.factors(torch.float64, "cpu")
        svd = low_rank_svd(update.B, update.A, update.scaling)
        found.append(Spectral(name.canonical, name.layer, name.role, change, svd, update))
    if not found:
        raise AdapterError(f"No module of '{adapter.path}' is selected. Widen include and exclude.")
    return found


def _named_as_in_base(updates: Sequence[Spectral], pair: CheckpointPair) -> list[Spectral]:
    """The updates under the names that their matrices have among all of the base, found by their factors.

    An adapter on one part of a model does not tell which leading words of its names all parts share.

    Raises:
        AdapterError: If the base has no matrix for one of them, so that its intruders cannot be counted.
    """
    names = {
        (matrix.change.A.source, matrix.change.B.source): matrix.name
        for matrix in pair.matrices
        if isinstance(matrix.change, LoraChange)
    }
    named = []
    for each in updates:
        sources = (each.change.A.source, each.change.B.source)
        name = names.get(sources) or names.get(sources[::-1])  # of an embedding, this package turns both factors
        if name is None:
            raise AdapterError(
                f"'{each.name}' is not compared with a matrix of '{pair.base}', so that its intruders cannot be "
                "counted. Give --no-count."
            )
        named.append(replace(each, name=name.canonical, layer=name.layer, role=name.role))
    return named


def chosen_ranks_of(
    squares: Sequence[Tensor], modules: Sequence[tuple[str, tuple[int, int]]], choice: RankChoice
) -> list[int]:
    """The rank of every module; at least 1, since peft knows no module without factors.

    Args:
        squares: Squared singular values of every update, decreasing, without those that are rounding.
        modules: Name and (d_out, d_in) of each.
        choice: How to choose.

    Raises:
        SpectrumError: If the rank exceeds a module's dimension, every update is zero, or a budget is too small.
    """
    if not any(own.shape[0] for own in squares):
        raise SpectrumError("Every update of this adapter is zero: there is nothing to resize. Check its training.")
    choice.require_within(modules)
    if choice.parameters is not None:
        costs = [sum(shape) for _, shape in modules]
        if sum(costs) > choice.parameters:
            raise SpectrumError(
                f"{choice.parameters} parameters are fewer than rank 1 takes in every module ({sum(costs)}). "
                "Allow more."
            )
        beyond = allocate([own[1:] for own in squares], costs, choice.parameters - sum(costs))
        return [1 + extra for extra in beyond]
    rule = choice.rule()
    ranks = []
    for own in squares:
        found = rule(own, float(own.sum())) if own.shape[0] else 1
        ranks.append(max(1, min(own.shape[0] if found is None else found, own.shape[0])))
    return ranks


def truncated_update(svd: SVD, rank: int, scaling: float, dtype: torch.dtype) -> LowRankUpdate:
    """The leading triplets as factors that share the singular values, for a scaling that stays."""
    leading = svd.leading(rank)
    root = (leading.S / (abs(scaling) or 1.0)).sqrt()
    sign = -1.0 if scaling < 0 else 1.0
    return LowRankUpdate((sign * leading.U * root).to(dtype), (root[:, None] * leading.Vh).to(dtype), scaling)


def reduced_matrix(
    name: str, layer: int | None, role: str, whole: LowRankUpdate, svd: SVD, written: LowRankUpdate
) -> ReducedMatrix:
    """The record of what the written factors leave out of an update, exactly: from the difference of both products."""
    left = written.to(dtype=torch.float64, device="cpu")
    B = torch.cat([whole.scaling * whole.B, -left.scaling * left.B], dim=1)
    rest = low_rank_svd(B, torch.cat([whole.A, left.A]))
    error = float(torch.linalg.vector_norm(rest.S))
    return ReducedMatrix(
        name=name,
        layer=layer,
        role=role,
        shape=whole.shape,
        rank_before=whole.rank,
        rank=written.rank,
        norm=float(torch.linalg.vector_norm(svd.S)),
        error=error,
        least_error=min(float(torch.linalg.vector_norm(svd.S[written.rank :])), error),
        spectral_error=float(rest.S[0]) if rest.S.shape[0] else 0.0,
        singular_values=tuple(svd.S.tolist()),
        method="factors",
    )


def _resized(each: Spectral, rank: int) -> tuple[ExchangedFactors, ReducedMatrix]:
    """The factors of one module at another rank; at its present one they stay as they are."""
    settings, dtype = each.change.settings, factor_dtype(each.change)
    if rank == settings.rank:
        written = each.change.factors(dtype, "cpu")
    else:
        written = truncated_update(each.svd, rank, settings.scaling, dtype)
    record = reduced_matrix(each.name, each.layer, each.role, each.update, each.svd, written)
    return ExchangedFactors(each.change, written), record


def _open(adapter: str | Path, selection: Selection) -> Adapter:
    name = selection.adapter_name
    place = find_adapter(locate(adapter, selection.revision), name, selection.take)
    if place.adapter is None:
        raise AdapterError(
            f"'{adapter}' is no adapter folder of peft. Name one, or use `spectra extract` for a full checkpoint."
        )
    return open_adapter(place.adapter, allow_pickle=selection.allow_pickle, adapter_name=name)


def _warnings(updates: Sequence[Spectral]) -> Iterator[str]:
    """What a reader of the numbers has to know."""
    zero = [each.name for each in updates if not each.squares.shape[0]]
    if zero:
        yield f"{len(zero)} updates are zero (such as '{zero[0]}') and keep rank 1."
