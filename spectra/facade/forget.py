"""`spectra.forget`: what tuned checkpoints no longer do as well as their base."""

from collections.abc import Sequence
from pathlib import Path

from spectra.facade.tasks import HeldOutLike, Say, held_out_tasks
from spectra.forgetting.run import ForgettingRun, Precision, measure_forgetting


def forget(
    checkpoint: str | Path | Sequence[str | Path],
    base: str | Path | None = None,
    *,
    heldout: HeldOutLike | Sequence[HeldOutLike],
    limit: int | None = None,
    max_length: int = 256,
    instruction: str | None = None,
    batch_size: int = 16,
    device: str = "cpu",
    dtype: Precision = "float32",
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
    out: str | Path | None = None,
    say: Say | None = None,
) -> ForgettingRun:
    """Measure forgetting: the loss of each checkpoint minus the base's, paired per example, with an interval.

    Args:
        checkpoint: A peft adapter folder or a full checkpoint folder, or several of one base.
        base: Asset name, folder or hub id; by default the one that the adapters name.
        heldout: Tasks that they were not tuned on: "TASK[:MEASURE]", fields as in a sweep's specification, or opened
            tasks.
        limit: Examples to score per task; None scores the whole test split.
        max_length: Tokens per text.
        instruction: Text between an input and the answer, for generative models.
        batch_size: Texts per forward pass.
        device: torch device.
        dtype: Arithmetic of the models.
        seed: Seed of the bootstrap.
        resamples: Replicates of the bootstrap.
        level: Coverage of the intervals, in (0, 1).
        out: Keep scores and `forgetting.json` in this folder, and take finished scores from it.
        say: Called with one line per step.

    Raises:
        ModelError: If the base is not stated, or a model lacks the head that a measure needs.
        DataError: If a task does not exist or does not fit its measure.

    Example:
        >>> result = spectra.forget(adapter, heldout=f"{texts}:lm-loss", limit=20)
        >>> result.to_dataframe()[["task", "metric", "n"]].values.tolist()
        [['prose:lm-loss', 'lm-loss', 20]]
    """
    checkpoints = [checkpoint] if isinstance(checkpoint, str | Path) else checkpoint
    tasks = held_out_tasks(heldout, say=say, limit=limit, max_length=max_length, instruction=instruction or None)
    folder = None if out is None else Path(out)
    result = measure_forgetting(
        [str(one) for one in checkpoints],
        tasks,
        base=None if base is None else str(base),
        dtype=dtype,
        device=device,
        batch_size=batch_size,
        folder=folder,
        progress=say,
        seed=seed,
        resamples=resamples,
        level=level,
    )
    if folder is not None:
        from spectra.storage.atomic import write_json

        write_json(folder / "forgetting.json", result.to_dict())
    return result
