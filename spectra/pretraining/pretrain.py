"""From a recipe to a base model in a folder: texts, tokenizer, random weights, training, measurement, card."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from spectra.assets import asset, cache_folder, made_folder
from spectra.data import TaskData
from spectra.errors import AssetError
from spectra.models import load_base
from spectra.pretraining.card import Card, write_card
from spectra.pretraining.recipe import Recipe, recipe_of
from spectra.pretraining.start import write_random_model
from spectra.pretraining.texts import joined, load_sources, measured_part
from spectra.records.provenance import commit, hardware, versions
from spectra.runs.lock import locked
from spectra.storage.atomic import remove, remove_partials, replacing
from spectra.storage.destinations import require_folder, whole_folder
from spectra.training.driver import Trained, evaluate, train
from spectra.training.store import save_trained
from spectra.training.trainer import OnStep

KIND = "base model"
SAVE_SECONDS = 60.0


def make(
    name: str,
    out: Path | None = None,
    *,
    recipe: Recipe | None = None,
    force: bool = False,
    progress: Callable[[str], None] = lambda line: None,
    on_step: OnStep | None = None,
) -> Path:
    """Pre-train a base model; one that is in the cache already is taken as it is.

    What was begun goes on from its last checkpoint, at most a minute old, which lies in the cache. The same recipe
    gives the same weights on one machine with the same number of threads and the same versions of the packages.

    Args:
        name: Name of a recipe, such as "tiny-lm".
        out: Folder to write; None writes into the cache, where the name then resolves.
        recipe: Another recipe in the place of the catalogue's, to try one out.
        force: Whether a model of this kind in `out` may be replaced.
        progress: Called with one line per stage.
        on_step: Called after every optimiser step with the step and the number of all.

    Returns:
        The folder with model, tokenizer, `card.json` and README.md.

    Raises:
        AssetError: If there is no such recipe, its texts cannot be fetched, or a model that comes with the package is
            to be made without `out`.
        DestinationError: If something else stands at `out`.
    """
    recipe = recipe or recipe_of(name)
    entry = asset(name)
    if out is None and entry.source == "shipped":
        raise AssetError(f"Asset '{name}' comes with this package. Name a folder with --out to make it again.")
    folder = require_folder(out, KIND, force=force) if out else made_folder(entry)
    work = cache_folder() / "making" / _identity(recipe, entry.version)
    with locked(work.with_name(f"{work.name}.lock")):
        if out is None and folder.is_dir():
            return folder
        work.mkdir(parents=True, exist_ok=True)
        remove_partials(work)
        progress(f"{name}: reading {', '.join(source.task for source in recipe.sources)}")
        tasks = load_sources(recipe, progress)
        task = joined(recipe, tasks)
        settings = recipe.settings(str(_start(recipe, task, work, progress)))
        progress(f"{name}: training {recipe.steps} steps of {recipe.batch_size} x {recipe.max_length} tokens")
        trained = train(settings, task, work / "training", save_seconds=SAVE_SECONDS, on_step=on_step)
        progress(f"{name}: measuring on texts that were kept apart")
        with whole_folder(folder, KIND, force=force) as content:
            dtype = torch.bfloat16 if recipe.storage == "bfloat16" else None
            save_trained(trained.model, trained.tokenizer, trained.initial, content, dtype)
            write_card(_card(recipe, tasks, task, trained, content), content)
        remove(work)
    return folder


def _identity(recipe: Recipe, version: str) -> str:
    """Name of the working folder: another recipe never goes on with this one's checkpoints."""
    content = json.dumps([asdict(recipe), torch.get_num_threads()], sort_keys=True)
    return f"{recipe.name}-{version}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _start(recipe: Recipe, task: TaskData, work: Path, progress: Callable[[str], None]) -> Path:
    """The random model of a recipe, written once: a training that goes on keeps its tokenizer."""
    start = work / "start"
    if not start.is_dir():
        progress(f"{recipe.name}: training a tokenizer of {recipe.vocabulary} entries")
        with replacing(start) as content:
            write_random_model(recipe, task.train["text"], content)
    return start


def _card(recipe: Recipe, tasks: dict[str, TaskData], joined_task: TaskData, trained: Trained, folder: Path) -> Card:
    """What came of it, measured on the model as it was stored."""
    stored = load_base(str(folder), "causal-lm")
    settings = recipe.settings(str(folder))
    losses: dict[str, dict[str, Any]] = {}
    for source in recipe.sources:
        part = measured_part(tasks[source.task], source.test)
        found = evaluate(stored.model, stored.tokenizer, part, "test", settings)
        losses[source.task] = {"loss": -found.score, "texts": len(part.test), "blocks": found.examples}
    return Card(
        recipe=recipe,
        parameters=sum(parameter.numel() for parameter in stored.model.parameters()),
        texts=len(joined_task.train),
        fingerprints={name: task.fingerprint for name, task in tasks.items()},
        tokens=trained.tokens,
        seconds=trained.seconds,
        threads=torch.get_num_threads(),
        history=trained.history,
        held_out=losses,
        versions=dict(versions()),
        hardware=dict(hardware()),
        commit=commit(),
    )
