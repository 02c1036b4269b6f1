"""The texts of a recipe: train splits to learn, parts of the validation splits to follow the loss on."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from spectra.data import TaskData, load_task, task_from_rows
from spectra.pretraining.recipe import Recipe


def load_sources(recipe: Recipe, progress: Callable[[str], None]) -> dict[str, TaskData]:
    """The tasks that a recipe learns from, by name; fetched on first use."""
    return {source.task: load_task(source.task, progress=progress) for source in recipe.sources}


def joined(recipe: Recipe, tasks: Mapping[str, TaskData]) -> TaskData:
    """One task of all sources.

    A text that two sources share is kept out of the train split if it stands in the validation or test part of either.
    """
    rows: dict[str, list[dict[str, str]]] = {"train": [], "validation": [], "test": []}
    for source in recipe.sources:
        task = tasks[source.task]
        rows["train"] += [{"text": text} for text in task.train["text"]]
        rows["validation"] += [{"text": text} for text in task.validation["text"][: source.validation]]
        rows["test"] += [{"text": text} for text in task.test["text"]]
    return task_from_rows(
        recipe.name, "causal-lm", train=rows["train"], validation=rows["validation"], test=rows["test"]
    )


def measured_part(task: TaskData, texts: int) -> TaskData:
    """A task with the leading texts of its test split, which come in an order drawn by hash."""
    return replace(task, test=task.test.select(range(min(texts, len(task.test)))))
