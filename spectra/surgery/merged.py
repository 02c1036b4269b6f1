"""The merged updates of a merge: one per matrix, in memory, and the files that they are written to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from spectra.errors import AdapterError
from spectra.linalg.operators import LowRankUpdate
from spectra.linalg.svd import low_rank_svd
from spectra.records.merge import Merge
from spectra.records.provenance import versions
from spectra.records.surgery import Reduction
from spectra.scanning.journal import Place
from spectra.surgery.forecast import Part, stacked
from spectra.surgery.lora_folder import ModuleFactors, module_to_adapt, plain_config
from spectra.surgery.rank_choice import RankChoice
from spectra.surgery.resize import chosen_ranks_of, reduced_matrix, truncated_update
from spectra.weights import CheckpointPair, MatrixPair, Origin, StoredMatrix, write_adapter, write_full_checkpoint
from spectra.weights.methods.adapter import LORA_KEY, PREFIX
from spectra.weights.methods.changes import LoraChange


@dataclass(frozen=True, eq=False)
class MergedUpdate:
    """The merged update of one matrix, in float64.

    Attributes:
        pair: The matrix, as the first of the adapters changes it.
        update: sum_i w_i scaling_i B_i A_i, its factors stacked.
        module: The module under which a plain LoRA holds it; None where it has no place for it.
    """

    pair: MatrixPair
    update: LowRankUpdate
    module: str | None

    def as_pair(self) -> MatrixPair:
        """The matrix with the merged update for its change."""
        return replace(self.pair, change=_InMemory(self.update))


@dataclass(frozen=True, eq=False)
class _InMemory:
    """A change whose factors are in memory."""

    update: LowRankUpdate
    lora: None = None

    @property
    def parameters(self) -> int:
        """Numbers in the factors."""
        return self.update.rank * sum(self.update.shape)

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: torch.device | str) -> LowRankUpdate:
        """The factors."""
        return self.update.to(dtype=dtype, device=device)

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: torch.device | str) -> Tensor:
        """W0 plus the product."""
        update = self.low_rank(W0, dtype, device)
        return W0.load(dtype, device).addmm_(update.B, update.A, alpha=update.scaling)


def parts_of(
    pairs: Sequence[CheckpointPair], places: Sequence[Place], weights: Sequence[float], device: str
) -> Iterator[Part]:
    """What each adapter adds to one matrix."""
    for i, j in places:
        matrix = pairs[i].matrices[j]
        update = matrix.update(torch.float32, device)
        if update is None:
            raise ValueError("a plain LoRA has factors")
        yield Part(i, weights[i], matrix, update)


def merged_update(pairs: Sequence[CheckpointPair], places: Sequence[Place], weights: Sequence[float]) -> MergedUpdate:
    """The stacked factors, in the finest dtype that any of them is stored in, and the module they belong to."""
    parts = [
        replace(part, update=part.pair.change.factors(torch.float64, "cpu"))  # type: ignore[attr-defined]
        for part in parts_of(pairs, places, weights, "cpu")
    ]
    return MergedUpdate(parts[0].pair, stacked(parts), _module(parts[0].pair))


def _module(matrix: MatrixPair) -> str | None:
    """The module as the base calls it; None where a plain LoRA has no place for it.

    Where the base's file has another program's names, the adapter's own name is taken.
    """
    change = matrix.change
    if not isinstance(change, LoraChange) or change.expert is not None or change.swapped:
        return None
    found = module_to_adapt(matrix)
    named = None if isinstance(found, str) else found[0]
    key = LORA_KEY.match(change.A.blocks[0].tensor.name.removeprefix(PREFIX))
    if key is None:
        return named
    theirs = key["module"]
    # A model with a head calls the base's modules by a longer name, which the base alone does not have.
    if named is not None and (f".{theirs}".endswith(f".{named}") or f".{named}".endswith(f".{theirs}")):
        return named
    return theirs


def write_merged_adapter(
    folder: Path,
    result: Merge,
    updates: Sequence[MergedUpdate],
    choice: RankChoice | None,
    origin: Origin,
    *,
    force: bool,
) -> Reduction | None:
    """Write the merged adapter, made smaller where a rank was chosen.

    Returns:
        The record of what that left out; None without a choice.

    Raises:
        AdapterError: If there is nothing to write.
    """
    held = [update for update in updates if update.module is not None and bool(update.update.B.any())]
    if not held:
        raise AdapterError("Every merged update is zero, or belongs to an expert: there is no adapter to write.")
    spectra = [low_rank_svd(each.update.B, each.update.A) for each in held]
    ranks = [each.update.rank for each in held]
    if choice is not None:
        squares = [svd.S.square() for svd in spectra]
        ranks = chosen_ranks_of(squares, [(str(e.pair.name), e.update.shape) for e in held], choice)
    factors, records = [], []
    for each, svd, rank in zip(held, spectra, ranks, strict=True):
        written = LowRankUpdate(each.update.B.float(), each.update.A.float())
        if choice is not None and rank < min(each.update.rank, svd.S.shape[0] + 1):
            written = truncated_update(svd, rank, 1.0, torch.float32)
        name = each.pair.name
        records.append(reduced_matrix(str(name), name.layer, name.role, each.update, svd, written))
        transposed = each.pair.W0.blocks[0].transposed
        factors.append(ModuleFactors(str(each.module), written.B, written.A, transposed))
    tensors: Mapping[str, Tensor] = {name: tensor for each in factors for name, tensor in each.tensors().items()}
    write_adapter(folder, plain_config(factors, result.base), tensors, origin, force=force)
    if choice is None:
        return None
    return Reduction(
        operation="merge",
        source=origin.made_by,
        base=result.base,
        out=str(folder),
        rule=choice.words(),
        k=result.k,
        epsilon=result.epsilon,
        matrices=tuple(records),
        versions=versions(),
    )


def write_merged_checkpoint(
    folder: Path, base: str, updates: Sequence[MergedUpdate], origin: Origin, *, force: bool
) -> None:
    """Write the base with every merged matrix, one of them in memory at a time."""

    def producer(update: MergedUpdate) -> Callable[[], Tensor]:
        return lambda: update.as_pair().W_tuned(torch.float32, "cpu")

    matrices = [(update.pair.W0, producer(update)) for update in updates]
    write_full_checkpoint(folder, base, matrices, origin, force=force)
