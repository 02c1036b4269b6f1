"""Lay out an intervention: scan a checkpoint, build the arms, name the models and tasks."""

from collections.abc import Sequence
from pathlib import Path

import torch

from spectra.engine.cache import FactorCache
from spectra.errors import DataError, SpectrumError
from spectra.forgetting import HeldOut
from spectra.forgetting.run import Precision
from spectra.interventions.arms import CONTROLS, arms_of
from spectra.interventions.directions import require_scale
from spectra.interventions.experiment import BASE_KEY, Experiment, Statistics, described, tuned_key
from spectra.interventions.model_scorer import ModelScorer
from spectra.interventions.own_task import OwnTask
from spectra.interventions.subject import Subject
from spectra.models import base_of, content_of, is_adapter, resolve_model
from spectra.records.selection import DEFAULT, Selection
from spectra.scanning.scan import Progress, scan_pairs
from spectra.scanning.settings import ScanSettings
from spectra.storage.destinations import require_continued
from spectra.storage.keyed import KeyedStore
from spectra.weights import open_pair

LAMBDAS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


def experiment(
    checkpoint: str | Path,
    held_out: Sequence[HeldOut],
    *,
    base: str | None = None,
    selection: Selection = DEFAULT,
    task: OwnTask | None = None,
    lambdas: Sequence[float] = LAMBDAS,
    controls: Sequence[str] = CONTROLS,
    select: str = "top",
    share: float = 0.9,
    k: int = 10,
    epsilon: float = 0.5,
    device: str = "cpu",
    dtype: Precision = "float32",
    batch_size: int = 16,
    folder: Path | None = None,
    seed: int = 0,
    resamples: int = 2000,
    level: float = 0.95,
    cache: FactorCache | None = None,
    progress: Progress | None = None,
) -> Experiment:
    """Scan a checkpoint and lay out its intervention; nothing is measured yet.

    Args:
        checkpoint: A peft adapter folder or a full checkpoint folder.
        held_out: What it may have forgotten.
        base: Asset name, folder or hub id; None takes the one that an adapter names.
        selection: Which matrices.
        task: The task that it was tuned on, scored with its own head.
        lambdas: Factors in [0, 2]; 1 is always added.
        controls: Names among `arms.CONTROLS`.
        select: "top" (of each matrix the highest-ranked intruder, as in the paper), "all" or "energy".
        share: Of the intruders' energy, for "energy".
        k: Leading singular vectors looked at per matrix.
        epsilon: Cosine below which a vector counts.
        device: torch device of scan and measurement.
        dtype: Arithmetic of base and tuned model.
        batch_size: Sequences per forward pass.
        folder: Finished points are kept here and not measured again; None keeps nothing.
        seed: Of random controls and of the bootstrap.
        resamples: Of the bootstrap.
        level: Of the intervals.
        cache: Where factors of W0 are kept between scans.
        progress: Called with (matrices done, all, name) by the scan.

    Raises:
        SpectrumError: If there is no intruder to scale, or a setting has no meaning.
        DataError: If there is no held-out task, or two have one name.
        DestinationError: If the folder holds what no intervention wrote.
    """
    factors = tuple(sorted({float(factor) for factor in (*lambdas, 1.0)}))
    for factor in factors:
        require_scale(factor)
    _require_distinct(held_out)
    if folder is not None:
        require_continued(folder, "intervene", inputs=[Path(checkpoint)])
    named = base or _stated_base(Path(checkpoint))
    reference = resolve_model(named)
    settings = ScanSettings(k=k, epsilon=epsilon, device=device)
    pair = open_pair(reference, checkpoint, selection)
    scorer = ModelScorer(named, Path(checkpoint), held_out, task, getattr(torch, dtype), device, batch_size)
    store = KeyedStore(folder, "points", owner="intervene")
    common = {
        "base": content_of(reference),
        "dtype": dtype,
        "batch_size": batch_size,
        **described(held_out, task),
    }
    if not all(store.find([common, key]) for key in (BASE_KEY, tuned_key(str(checkpoint)))):
        scorer.require_measurable()
    (scan,) = scan_pairs([pair], settings, cache=cache, progress=progress)
    subject = Subject(pair, scan, select, share, device)
    arms, left_out = arms_of(subject, controls, seed=seed)
    return Experiment(
        subject=subject,
        arms=arms,
        left_out=left_out,
        scorer=scorer,
        lambdas=factors,
        statistics=Statistics(seed, resamples, level),
        store=store,
        common=common,
        folder=folder,
    )


def _stated_base(checkpoint: Path) -> str:
    if not is_adapter(checkpoint):
        raise SpectrumError(f"A full checkpoint does not name its base: '{checkpoint}'. Give it with --base.")
    return base_of(checkpoint)


def _require_distinct(held_out: Sequence[HeldOut]) -> None:
    names = [task.name for task in held_out]
    if not names or len(set(names)) < len(names):
        raise DataError(f"The held-out tasks are {names}. Give at least one, and each once.")
