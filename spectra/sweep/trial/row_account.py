"""The account of every row of a sweep's tasks, as rows of a table: read, used, dropped and why, cut, trained on."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from spectra.data import Cut, TaskData
from spectra.data.splits import first, identity
from spectra.errors import first_five
from spectra.forgetting import HeldOut
from spectra.forgetting.batches import encode as encode_texts
from spectra.training.families import FAMILIES, family_of
from spectra.training.settings import Recipe

CHARACTERS = 1000  # of a row, as a mean, up to which a sample of rows is cut into tokens
LIMITS = {"train": "train_examples", "validation": "validation_examples", "test": "test_examples"}


def account_rows(
    tasks: Sequence[TaskData],
    held_out: Sequence[HeldOut],
    settings: Recipe,
    tokenizer: Any | None,
    most: int | None = None,
) -> Iterator[dict[str, Any]]:
    """One row per task and split that has rows.

    Args:
        tasks: The tasks that are trained on.
        held_out: The held-out tasks.
        settings: They say how long a text may be and how many rows are taken.
        tokenizer: Of the base; None leaves out what is said about tokens.
        most: At most so many rows of a split are cut into tokens, and of long rows fewer; None cuts all.
    """
    trained = {identity(row) for task in tasks for row in first(task.train, settings.train_examples)}
    for task in tasks:
        for split, limit in LIMITS.items():
            rows = first(getattr(task, split), getattr(settings, limit))
            cut = None
            if tokenizer is not None and len(rows):
                family = FAMILIES[family_of(task.kind, settings.base)]
                cut = family.encode(_leading(rows, most), tokenizer, settings.max_length).cut
            yield from _rows(task, task.name, "task", split, cut, _overlap(rows, split, trained))
    for one in held_out:
        if one.data is None:  # a task of the harness has its own account
            continue
        for split, rows in (("train", one.fit_rows()), ("test", one.test_rows())):
            if len(rows):
                cut = None
                if tokenizer is not None:
                    cut = encode_texts(tokenizer, one.texts(_leading(rows, most)), one.max_length)[1]
                yield from _rows(one.data, one.name, "held out", split, cut, _overlap(rows, split, trained))


def _leading(rows: Any, most: int | None) -> Any:
    """The first rows, up to a number of rows and of characters; one is always among them."""
    if most is None:
        return rows
    left, count = most * CHARACTERS, 0
    for row in first(rows, most):
        left -= sum(len(text) for text in row.values() if isinstance(text, str))
        if left < 0:
            break
        count += 1
    return first(rows, max(1, count))


def _overlap(rows: Any, split: str, trained: Collection[str]) -> int | None:
    """Rows that are also trained on; of rows to train on that says nothing."""
    return None if split == "train" else sum(identity(row) in trained for row in rows)


def _rows(
    task: TaskData, name: str, role: str, split: str, cut: Cut | None, overlap: int | None
) -> Iterator[dict[str, Any]]:
    part = next((part for part in task.account if part.split == split), None)
    if part is None or not (part.read or part.used):
        return
    said = [*part.warnings(name), *(cut.warnings(f"Task '{name}', {split} split") if cut else [])]
    if overlap:
        said.append(
            f"Task '{name}', {split} split: {overlap} of its rows are also training rows of this sweep, so that a "
            "score on them says nothing about other texts."
        )
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
        "overlap": overlap,
        "warning": " ".join(said),
    }
