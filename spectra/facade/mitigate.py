"""`spectra.mitigate`: write an adapter whose intruder dimensions are scaled, and count again."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from spectra.engine.cache import FactorCache
from spectra.errors import DataError
from spectra.facade.tasks import HeldOutLike, Say, TaskLike, held_out_tasks, own_task
from spectra.interventions import Mitigation, OwnTask, experiment, on_validation
from spectra.interventions.direction_selection import Select
from spectra.interventions.lambda_selection import choose_lambda, held_out_validation
from spectra.interventions.mitigation import write_mitigated
from spectra.records.selection import DEFAULT, Selection
from spectra.scanning.scan import Progress
from spectra.storage.destinations import require_folder


def mitigate(
    adapter: str | Path,
    base: str | Path | None = None,
    *,
    out: str | Path,
    lam: float = 0.7,
    selection: Selection = DEFAULT,
    select: Select = "top",
    share: float = 0.9,
    rank: Literal["exact", "same"] | int = "exact",
    shrink: bool = False,
    k: int = 10,
    epsilon: float = 0.5,
    device: str = "cpu",
    force: bool = False,
    choose_by: TaskLike | OwnTask | None = None,
    heldout: HeldOutLike | Sequence[HeldOutLike] = (),
    lambdas: Sequence[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    most_drop: float = 0.01,
    limit: int | None = None,
    fit_limit: int | None = None,
    max_length: int = 256,
    task_max_length: int | None = None,
    instruction: str | None = None,
    batch_size: int = 16,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> Mitigation:
    """Scale the intruder dimensions of a LoRA adapter, write the result as an adapter that peft loads, and count again.

    delta_W -> delta_W + (lambda - 1) sum_{j chosen} u_j sigma_j v_j^H,  with the triplets of W0 + delta_W.

    Args:
        adapter: A LoRA adapter: folder or hub id.
        base: The pre-trained checkpoint; by default the one that the adapter names.
        out: The folder to write.
        lam: Factor on the treated singular values, in [0, 2]: 0 removes, 1 changes nothing.
        selection: Which matrices, and how the files are opened.
        select: "top" (of each matrix the highest-ranked intruder), "all" or "energy".
        share: Share of the intruders' energy, for "energy".
        rank: "exact" (present rank + treated directions, module by module), "same" (truncated to the present rank,
            which loses energy) or the largest rank of a treated module.
        shrink: Write instead  delta_W -> c delta_W  of the norm that the intervention leaves, matrix by matrix.
        k: Leading singular vectors looked at per matrix.
        epsilon: Cosine below which a vector counts as an intruder.
        device: torch device of the computation.
        force: Replace an existing folder.
        choose_by: Choose lambda, in place of `lam`, on the validation split of this task, the one tuned on.
        heldout: With `choose_by`: what to mend.
        lambdas: With `choose_by`: the factors to choose among.
        most_drop: With `choose_by`: the largest loss of task score.
        limit: Examples to score per task; None scores the whole split.
        fit_limit: Training examples that a probe is fitted on; None: 2000.
        max_length: Tokens per text.
        task_max_length: Tokens per text of `choose_by`; None: `max_length`.
        instruction: Text between an input and the answer, for generative models.
        batch_size: Texts per forward pass.
        cache: Where factors of W0 are kept between scans.
        progress: Called with (done, all, name) by the scans and the measurements.
        say: Called with one line per step of a fetch.

    Returns:
        What was treated, with the counts before and after.

    Raises:
        AdapterError: If it is no adapter, or of a kind that cannot be edited (DoRA, methods other than LoRA).
        DataError: If only one of `choose_by` and `heldout` is given.
        CheckpointError: If a file cannot be read.
        DestinationError: If `out` exists and `force` is not given, or it is no adapter that this package wrote.
        SpectrumError: If a setting has no meaning.

    Source: Shuttleworth et al., arXiv:2410.21228, section 5.
        Difference: exact in the adapter's own format, where peft's `reduce_intruder_dimension` truncates to the rank.

    Example:
        >>> result = spectra.mitigate(adapter, out=folder / "mended", lam=0.5, k=4)
        >>> result.count_before, result.directions
        (13, 9)
    """
    held_out = list(
        held_out_tasks(
            heldout,
            whole=False,
            say=say,
            limit=limit,
            fit_limit=fit_limit,
            max_length=max_length,
            instruction=instruction,
        )
    )
    if (choose_by is None) != (not held_out):
        raise DataError("choose_by needs heldout, and heldout is for choose_by. Give both or neither.")
    record = choice = None
    if choose_by is not None:
        inputs = [Path(str(named)) for named in (adapter, base) if named is not None]
        require_folder(Path(out), "adapter", force=force, inputs=inputs)  # before hours of measuring
        own = own_task(choose_by, limit=limit, max_length=task_max_length or max_length, say=say)
        prepared = experiment(
            adapter,
            [held_out_validation(task) for task in held_out],
            base=None if base is None else str(base),
            task=on_validation(own),
            selection=selection,
            lambdas=lambdas,
            controls=("shrink",) if shrink else (),
            select=select,
            share=share,
            k=k,
            epsilon=epsilon,
            device=device,
            batch_size=batch_size,
            cache=cache,
            progress=progress,
        )
        prepared.run(progress)
        record = prepared.record()
        choice = choose_lambda(record, arm="shrink" if shrink else "intruders", most_drop=most_drop)
        lam = choice.lam
    written = write_mitigated(
        adapter,
        out,
        base=base,
        selection=selection,
        lam=lam,
        select=select,
        share=share,
        rank=rank,
        shrink=shrink,
        k=k,
        epsilon=epsilon,
        device=device,
        force=force,
        cache=cache,
        progress=progress,
    )
    return replace(written, choice=choice, curve=record.rows if record is not None else ())
