"""`spectra.extract`: the best LoRA of a full fine-tuning, with the bracket of what it leaves out."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from spectra.engine.cache import FactorCache
from spectra.errors import CheckpointError
from spectra.forgetting import HeldOut
from spectra.interventions.own_task import OwnTask
from spectra.linalg.allocation import allocate
from spectra.linalg.truncation import Truncation, fixed_rank, leading_values, truncated
from spectra.records.provenance import versions
from spectra.records.selection import DEFAULT, Selection
from spectra.records.surgery import ReducedMatrix, Reduction
from spectra.records.verdicts import Skipped
from spectra.scanning.scan import Progress
from spectra.scanning.settings import ScanSettings
from spectra.storage.destinations import require_folder
from spectra.surgery.counting import counted
from spectra.surgery.lora_folder import ModuleFactors, module_to_adapt, plain_config, task_type_of
from spectra.surgery.measuring import measured, require_inputs
from spectra.surgery.outside import Outside, bias_tensors, chosen_kinds, outside
from spectra.surgery.rank_choice import RankChoice
from spectra.weights import CheckpointPair, MatrixPair, Origin, base_fingerprint, open_pair, write_adapter
from spectra.weights.formats.checkpoint import Checkpoint, open_checkpoint
from spectra.weights.formats.hub import locate

# A budget first looks at so many times the rank that it would give all matrices alike.
FIRST_DEPTH = 2
# Singular values that are kept for the picture of a spectrum.
PICTURED = 256


@dataclass(frozen=True, eq=False)
class _Adapted:
    """A matrix that gets factors."""

    pair: MatrixPair
    module: str
    transposed: bool

    def delta(self, settings: ScanSettings) -> Tensor:
        """delta_W, dense: the one large matrix in memory."""
        return self.pair.delta_W(settings.torch_dtype, settings.device)


def extract(
    tuned: str | Path,
    *,
    out: str | Path,
    base: str | Path | None = None,
    selection: Selection = DEFAULT,
    rank: int | None = None,
    energy: float | None = None,
    error: float | None = None,
    parameters: int | None = None,
    modules_to_save: Sequence[str] = (),
    count: bool = True,
    k: int = 10,
    epsilon: float = 0.5,
    heldout: Sequence[HeldOut] = (),
    task: OwnTask | None = None,
    beside: str | Path | None = None,
    batch_size: int = 16,
    dtype: str = "float32",
    device: str = "cpu",
    seed: int = 0,
    force: bool = False,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Reduction:
    """Write the LoRA adapter that is nearest to a full fine-tuning at its ranks, and say what it leaves out.

    B A is the truncated SVD of W_tuned - W0, matrix by matrix; one dense matrix is in memory at a time.

    Args:
        tuned: A full checkpoint (or an adapter whose update is dense, such as DoRA).
        out: The folder to write.
        base: The pre-trained checkpoint; an adapter names its own.
        selection: Which matrices get factors, and how the files are opened.
        rank: The same rank for every matrix; exactly one of this and the next three is given.
        energy: Per matrix the smallest rank that keeps this share of ||delta_W||_F^2.
        error: Per matrix the smallest rank that leaves out singular values of at most this share of the largest.
        parameters: Numbers in all factors, spread so that the sum of squared errors is least.
        modules_to_save: Kinds of what else changed to be saved whole: "norms", "biases", "embeddings", "others" or
            "all". A head that the base lacks is always saved.
        count: Count the intruder dimensions of the original and of what was written.
        k: Leading vectors per matrix of these counts.
        epsilon: Cosine below which a vector counts.
        heldout: Held-out tasks on which the forgetting of both is measured.
        task: The task it was tuned on, which both are scored on.
        beside: An adapter that was trained at this size, measured beside them.
        batch_size: Texts per forward pass.
        dtype: "float32" or "float64" arithmetic.
        device: torch device.
        seed: Of the random columns and the bootstrap.
        force: Replace an existing folder that spectra wrote.
        cache: Where factors of W0 are kept between scans.
        progress: Called with (matrices done, all, name).
        say: Called with one line per measurement.

    Returns:
        One entry per matrix, with ||delta_W - B A||_F as measured and the least that any factors of that rank leave.

    Raises:
        CheckpointError: If a file cannot be read, the two do not fit together, or nothing changed.
        SpectrumError: If a setting has no meaning.
        DestinationError: If `out` exists and `force` is not given, or it is no adapter that spectra wrote.

    Example:
        >>> lora = spectra.extract(full, base=base, out=folder / "lora", rank=2, count=False)
        >>> set(lora.to_dataframe()["rank"])
        {2}

    Source: Eckart & Young 1936.
        Difference: ranks per matrix, and a bracket of the error where the matrix is too large to be factorised.
    """
    choice, kinds = RankChoice(rank, energy, error, parameters), chosen_kinds(modules_to_save)
    settings = ScanSettings(k=k, epsilon=epsilon, dtype=dtype, device=device, seed=seed)
    inputs = [Path(str(named)) for named in (tuned, base, beside) if named is not None]
    require_folder(Path(out), "adapter", force=force, inputs=inputs)
    pair = open_pair(base, tuned, selection)
    if beside is not None:
        open_pair(str(pair.base), beside, replace(selection, revision=None))  # refused before anything is written
    adapted, left = _adaptable(pair)
    choice.require_within([(str(each.pair.name), each.pair.shape) for each in adapted])
    named = [str(tuned), *([str(beside)] if beside is not None else [])]
    require_inputs(named, str(pair.base), heldout=heldout, task=task, device=device)
    records, factors = _factored(adapted, choice, settings, pair, progress)
    other, config = _outside(pair, tuned, factors, adapted, kinds, selection)
    biases, unmerged = bias_tensors(other, {each.module: each.B.shape[0] for each in factors}, _biased(config, factors))
    tensors = (
        {name: tensor for each in factors for name, tensor in each.tensors().items()} | biases | dict(other.tensors)
    )
    written = plain_config(
        factors,
        pair.base,
        task_type=None if config is None else task_type_of(config.config),
        modules_to_save=other.modules,
        lora_bias=bool(biases),
    )
    origin = Origin(
        str(pair.base),
        base_fingerprint(str(pair.base), selection.base_revision, allow_pickle=selection.allow_pickle),
        f"spectra extract ({choice.words()})",
        str(tuned),
    )
    write_adapter(Path(out), written, tensors, origin, force=force)
    result = Reduction(
        operation="extract",
        source=str(tuned),
        base=pair.base,
        out=str(out),
        rule=choice.words(),
        k=k,
        epsilon=epsilon,
        matrices=records,
        saved_whole=other.modules,
        left_behind=(*left, *other.left_behind, *unmerged),
        warnings=(*pair.warnings, *_warnings(records, other)),
        versions=versions(),
    )
    if count:
        result = counted(result, pair, settings, selection, cache=cache, progress=progress)
    if heldout or task is not None:
        found = measured(
            [named[0], str(out), *named[1:]],
            str(pair.base),
            heldout=heldout,
            task=task,
            device=device,
            batch_size=batch_size,
            seed=seed,
            progress=say,
        )
        result = replace(result, measured=found)
    return result


def _adaptable(pair: CheckpointPair) -> tuple[list[_Adapted], list[Skipped]]:
    """The matrices that a plain LoRA can hold, and the others with the reason."""
    adapted, left = [], []
    for matrix in pair.matrices:
        found = module_to_adapt(matrix)
        if isinstance(found, str):
            left.append(Skipped(str(matrix.name), found))
        else:
            adapted.append(_Adapted(matrix, *found))
    if not adapted:
        raise CheckpointError(
            f"No matrix of '{pair.checkpoint}' can be given factors: {left[0].reason} ('{left[0].name}')."
        )
    return adapted, left


def _factored(
    adapted: Sequence[_Adapted],
    choice: RankChoice,
    settings: ScanSettings,
    pair: CheckpointPair,
    progress: Progress | None,
) -> tuple[tuple[ReducedMatrix, ...], list[ModuleFactors]]:
    """The factors of every matrix with their records; a matrix that did not change has neither."""
    rules = [choice.rule()] * len(adapted) if choice.parameters is None else None
    if rules is None:
        ranks = _spread_ranks(adapted, choice.parameters or 0, settings)
        rules = [fixed_rank(rank) for rank in ranks]
    records, factors = [], []
    for place, (each, rule) in enumerate(zip(adapted, rules, strict=True), start=1):
        cut = truncated(each.delta(settings), rule, seed=settings.seed)
        records.append(_record(each.pair, cut))
        if cut.rank:
            factors.append(ModuleFactors(each.module, cut.B.cpu(), cut.A.cpu(), each.transposed))
        if progress is not None:
            progress(place, len(adapted), str(each.pair.name))
    if not any(record.norm > 0 for record in records):
        raise CheckpointError(
            f"'{pair.checkpoint}' equals '{pair.base}' in all {len(records)} matrices: there is no update to extract. "
            "Check that the two are not the same checkpoint."
        )
    return tuple(records), factors


def _spread_ranks(adapted: Sequence[_Adapted], budget: int, settings: ScanSettings) -> list[int]:
    """Ranks within a budget: looks deeper into the spectra of those matrices whose last known triplet was taken."""
    costs = [sum(each.pair.shape) for each in adapted]
    most = [min(*each.pair.shape, budget // cost) for each, cost in zip(adapted, costs, strict=True)]
    depths = [min(limit, FIRST_DEPTH * (budget // sum(costs)) + 8) for limit in most]
    squares: list[Tensor] = [torch.zeros(0)] * len(adapted)
    waiting = [place for place, limit in enumerate(most) if limit]
    while True:
        for place in waiting:
            values = leading_values(adapted[place].delta(settings), depths[place], seed=settings.seed)
            squares[place] = values[: most[place]].square()
        ranks = allocate(squares, costs, budget)
        waiting = [
            place
            for place, rank in enumerate(ranks)
            if rank == squares[place].shape[0] and depths[place] < most[place] and squares[place].shape[0] < most[place]
        ]
        if not waiting:
            return ranks
        for place in waiting:
            depths[place] = min(most[place], 2 * depths[place])


def _record(matrix: MatrixPair, cut: Truncation) -> ReducedMatrix:
    return ReducedMatrix(
        name=str(matrix.name),
        layer=matrix.name.layer,
        role=matrix.name.role,
        shape=matrix.shape,
        rank_before=None,
        rank=cut.rank,
        norm=cut.norm,
        error=cut.bracket.error,
        least_error=cut.bracket.least,
        spectral_error=cut.bracket.spectral,
        singular_values=tuple(cut.S[:PICTURED].tolist()),
        method=cut.method,
    )


def _outside(
    pair: CheckpointPair,
    tuned: str | Path,
    factors: Sequence[ModuleFactors],
    adapted: Sequence[_Adapted],
    kinds: frozenset[str],
    selection: Selection,
) -> tuple[Outside, Checkpoint | None]:
    """What else changed, and the tuned checkpoint; an adapter has nothing else to compare."""
    if pair.kind != "full":
        told = [one for one in pair.skipped if "whole" in one.reason]
        return Outside((), {}, {}, tuple(told)), None
    pickles = selection.allow_pickle
    checkpoint = open_checkpoint(locate(tuned, selection.revision), allow_pickle=pickles)
    base = open_checkpoint(locate(str(pair.base), selection.base_revision, role="base"), allow_pickle=pickles)
    written = {each.module for each in factors}
    names = {each.pair.home.blocks[0].tensor.name: each.module for each in adapted if each.module in written}
    return outside(checkpoint, base, [each.pair for each in adapted], names, kinds), checkpoint


def _biased(checkpoint: Checkpoint | None, factors: Sequence[ModuleFactors]) -> set[str]:
    """Modules with factors that have a bias."""
    if checkpoint is None:
        return set()
    return {each.module for each in factors if f"{each.module}.bias" in checkpoint.tensors}


def _warnings(records: Sequence[ReducedMatrix], other: Outside) -> Iterator[str]:
    """What a reader of the numbers has to know."""
    large = [one.name for one in records if one.rank and one.rank * sum(one.shape) >= one.shape[0] * one.shape[1]]
    if large:
        yield (
            f"The factors of {len(large)} matrices hold as many numbers as the matrices or more (such as "
            f"'{large[0]}'): their updates are not of low rank."
        )
    if other.left_behind:
        yield (
            f"{len(other.left_behind)} tensors changed and are not in the adapter (such as "
            f"'{other.left_behind[0].name}'): see left_behind, and modules_to_save."
        )
