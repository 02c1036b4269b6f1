"""`spectra.intervene`: do the intruders cause the forgetting, or does any update of that size?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spectra.engine.cache import FactorCache
from spectra.errors import DestinationError
from spectra.facade.tasks import HeldOutLike, Say, TaskLike, held_out_tasks, own_task
from spectra.forgetting.run import Precision
from spectra.interventions import CONTROLS, LAMBDAS, InterventionRun, OwnTask, experiment
from spectra.interventions.arms import ControlName
from spectra.interventions.direction_selection import Select
from spectra.records.interrupted import Interrupted
from spectra.records.selection import DEFAULT, Selection
from spectra.scanning.scan import Progress
from spectra.storage.atomic import read_json


def intervene(
    checkpoint: str | Path,
    base: str | Path | None = None,
    *,
    heldout: HeldOutLike | Sequence[HeldOutLike],
    task: TaskLike | OwnTask | None = None,
    selection: Selection = DEFAULT,
    lambdas: Sequence[float] = LAMBDAS,
    controls: Sequence[ControlName] = CONTROLS,
    select: Select = "top",
    share: float = 0.9,
    k: int = 10,
    epsilon: float = 0.5,
    limit: int | None = None,
    fit_limit: int | None = None,
    max_length: int = 256,
    task_max_length: int | None = None,
    instruction: str | None = None,
    batch_size: int = 16,
    device: str = "cpu",
    dtype: Precision = "float32",
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
    out: str | Path | None = None,
    force: bool = False,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> InterventionRun:
    """Scale the intruder dimensions of a loaded checkpoint, beside controls, and measure what that changes.

    W = W_tuned + (lambda - 1) sum_{j chosen} u_j sigma_j v_j^H,  in memory, for every lambda; no checkpoint is written.

    Args:
        checkpoint: A peft adapter folder or a full checkpoint folder.
        base: Asset name, folder or hub id; by default the one that the adapter names.
        heldout: What it may have forgotten: "TASK[:MEASURE]", fields as in a sweep's specification, or opened tasks.
        task: The task that it was tuned on, scored with its own head.
        selection: Which matrices.
        lambdas: Factors in [0, 2] on the treated singular values; 1 is always added.
        controls: Names among `CONTROLS`.
        select: "top" (of each matrix the highest-ranked intruder, as in the paper), "all" or "energy".
        share: Share of the intruders' energy, for "energy".
        k: Leading singular vectors looked at per matrix.
        epsilon: Cosine below which a vector counts as an intruder.
        limit: Examples to score per task; None scores the whole test split.
        fit_limit: Training examples that a probe is fitted on; None: 2000.
        max_length: Tokens per text.
        task_max_length: Tokens per text of `task`; use that of the training. None: `max_length`.
        instruction: Text between an input and the answer, for generative models.
        batch_size: Texts per forward pass.
        device: torch device of scan and measurement.
        dtype: Arithmetic of the models.
        seed: Seed of random controls and of the bootstrap.
        resamples: Replicates of the bootstrap.
        level: Coverage of the intervals, in (0, 1).
        out: Keep finished points in this folder and take them from it; write tables and figures there.
        force: Write over the tables of another checkpoint in `out`.
        cache: Where factors of W0 are kept between scans.
        progress: Called with (matrices done, all, name) by the scan, then with (points done, all, name).
        say: Called with one line per step of a fetch.

    Returns:
        Every point with its intervals, the areas between the curves, and the verdict.

    Raises:
        SpectrumError: If there is no intruder to scale, or a setting has no meaning.
        ModelError: If a model lacks the head that a task needs.
        DataError: If a task does not fit its measure.
        DestinationError: If `out` holds the tables of another checkpoint.
        Interrupted: On Ctrl-C while points are measured, with what is done.

    Source: Shuttleworth et al., arXiv:2410.21228, section 5 and its figure of interventions.
        Difference: with controls, paired per example, with intervals and a verdict.

    Example:
        >>> run = spectra.intervene(
        ...     adapter, heldout=f"{texts}:lm-loss", lambdas=(0.0,), controls=("shrink",), k=4, limit=20
        ... )
        >>> run.to_dataframe()[["arm", "factor"]].values.tolist()
        [['intruders', 0.0], ['intruders', 1.0], ['shrink', 0.0], ['shrink', 1.0]]
    """
    folder = None if out is None else Path(out)
    if folder is not None and not force:
        _require_own(folder, str(checkpoint))
    limits: dict[str, Any] = {
        "limit": limit, "fit_limit": fit_limit, "max_length": max_length, "instruction": instruction
    }  # fmt: skip
    held_out = held_out_tasks(heldout, say=say, **limits)
    own = None if task is None else own_task(task, limit=limit, max_length=task_max_length or max_length, say=say)
    prepared = experiment(
        checkpoint,
        held_out,
        base=None if base is None else str(base),
        task=own,
        selection=selection,
        lambdas=lambdas,
        controls=controls,
        select=select,
        share=share,
        k=k,
        epsilon=epsilon,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        folder=folder,
        seed=seed,
        resamples=resamples,
        level=level,
        cache=cache,
        progress=progress,
    )
    stopped = None
    try:
        prepared.run(progress)
    except KeyboardInterrupt as interrupt:
        stopped = interrupt
    record = prepared.finish()
    if folder is not None:
        from spectra.figures import write_figures

        write_figures(folder, folder, kind="svg", force=True)
    if stopped is not None:
        raise Interrupted(record, resumes=folder is not None) from stopped
    return record


def _require_own(folder: Path, checkpoint: str) -> None:
    """A folder goes on with its own checkpoint; the tables of another are not written over."""
    table = folder / "interventions.json"
    if table.exists() and (there := read_json(table).get("checkpoint")) != checkpoint:
        raise DestinationError(f"'{folder}' holds the tables of '{there}'. Choose another --out, or add --force.")
