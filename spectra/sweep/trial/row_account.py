"""The account of every row of a trial's tasks, as rows of a table: read, used, dropped and why, cut, classes."""

from collections.abc import Iterator, Sequence
from typing import Any

from spectra.data import Cut, TaskData
from spectra.errors import first_five
from spectra.forgetting import HeldOut
from spectra.forgetting.batches import encode as encode_texts
from spectra.training.driver import first
from spectra.training.families import FAMILIES, family_of
from spectra.training.settings import Recipe

LIMITS = {"train": "train_examples", "validation": "validation_examples", "test": "test_examples"}


def account_rows(
    tasks: Sequence[TaskData], held_out: Sequence[HeldOut], settings: Recipe, tokenizer: Any
) -> Iterator[dict[str, Any]]:
    """One row per task and split that has rows.

    Args:
        tasks: The tasks that are trained on.
        held_out: The held-out tasks.
        settings: They say how long a text may be and how many rows are taken.
        tokenizer: Of the base.
    """
    for task in tasks:
        family = FAMILIES[family_of(task.kind, settings.base)]
        for split, limit in LIMITS.items():
            rows = first(getattr(task, split), getattr(settings, limit))
            cut = family.encode(rows, tokenizer, settings.max_length).cut if len(rows) else None
            yield from _rows(task, task.name, "task", split, cut)
    for one in held_out:
        if one.data is None:  # a task of the harness has its own account
            continue
        for split, rows in (("train", one.fit_rows()), ("test", one.test_rows())):
            if len(rows):
                texts = list(rows["source" if one.data.kind == "seq2seq" else "text"])
                yield from _rows(
                    one.data, one.name, "held out", split, encode_texts(tokenizer, texts, one.max_length)[1]
                )


def _rows(task: TaskData, name: str, role: str, split: str, cut: Cut | None) -> Iterator[dict[str, Any]]:
    part = next((part for part in task.account if part.split == split), None)
    if part is None or not (part.read or part.used):
        return
    said = [*part.warnings(name), *(cut.warnings(f"Task '{name}', {split} split") if cut else [])]
    yield {
        "task": name,
        "role": role,
        "split": split,
        "read": part.read,
        "used": part.used,
        "set_aside": sum(part.set_aside.values()),
        "dropped": sum(part.dropped.values()),
        "reasons": part.reasons(),
        "classes": len(part.classes) or None,
        "unseen": first_five(part.unseen),
        "max_length": cut.max_length if cut else None,
        "texts": cut.texts if cut else None,
        "texts_cut": cut.cut if cut else None,
        "tokens_lost": cut.lost if cut else None,
        "warning": " ".join(said),
    }
