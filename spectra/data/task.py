"""What a task is: three disjoint splits with known columns, their account and their fingerprint."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from datasets import Dataset

from spectra.data.account import SplitAccount
from spectra.data.labels import names_of, numbering
from spectra.data.rows import Counted, Row, Splits
from spectra.data.spec import NAMED_LABELS, TaskKind
from spectra.errors import DataError

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class TaskData:
    """A task ready for training or measuring.

    Attributes:
        name: What reports call it.
        kind: Decides the columns: "classification", "regression" and "multi-label" have `text` (and `text_pair` where
            the task is about pairs) and a `label`: a number, a score, or a 0 or 1 for each name; "causal-lm" has
            `text`; "seq2seq" has `source` and `target`.
        train: Training split.
        validation: For every choice that is made while training.
        test: Touched once, at the end.
        label_names: Names by label number; empty unless the kind has classes.
        fingerprint: SHA-256 of everything above but the name.
        source: Where the rows came from, in words.
        account: What became of the rows of each split.
    """

    name: str
    kind: TaskKind
    train: Dataset
    validation: Dataset
    test: Dataset
    label_names: tuple[str, ...]
    fingerprint: str
    source: str
    account: tuple[SplitAccount, ...] = ()

    @property
    def warnings(self) -> list[str]:
        """Sentences about lost rows and unseen labels that a reader of any figure has to know."""
        return [sentence for part in self.account for sentence in part.warnings(self.name)]

    @property
    def outputs(self) -> int | None:
        """Width of the head that the task needs; None where it needs none of its own."""
        return 1 if self.kind == "regression" else len(self.label_names) or None

    def in_order(self, outputs: Sequence[int]) -> "TaskData":
        """The same task with label i written as `outputs[i]`: the order of a head that was trained elsewhere."""
        if list(outputs) == list(range(len(outputs))):
            return self

        def moved(label: Any) -> Any:
            return [label[outputs.index(output)] for output in range(len(outputs))] if several else outputs[label]

        several = self.kind == "multi-label"
        train, validation, test = (
            Dataset.from_list([{**row, "label": moved(row["label"])} for row in getattr(self, split)])
            for split in SPLITS
        )
        names = tuple(self.label_names[outputs.index(output)] for output in range(len(outputs)))
        return replace(self, train=train, validation=validation, test=test, label_names=names)


def assemble(
    name: str,
    kind: TaskKind,
    splits: Splits,
    *,
    source: str,
    label_names: Sequence[str] = (),
    held_out: bool = False,
) -> TaskData:
    """Turn rows into a task. A row's `label` is a name (or number, or several) and becomes its position.

    Args:
        name: What reports call the task.
        kind: Of the task.
        splits: Rows of the three splits, with their accounts.
        source: Where they came from.
        label_names: Names by label number; empty takes them from the rows.
        held_out: Nothing is trained or chosen on it: only the test split needs rows.

    Raises:
        DataError: If a split is empty, a label is not among `label_names`, or there is only one label.
    """
    for split, counted in zip(SPLITS, splits, strict=True):
        if not counted.rows and not (held_out and split != "test"):
            raise DataError(_empty(name, split, counted))
    names: tuple[str, ...] = ()
    rows: list[Sequence[Row]] = [counted.rows for counted in splits]
    classes: list[dict[str, int]] = [{}, {}, {}]
    if kind in NAMED_LABELS:
        found = {label for part in rows for row in part for label in _labels(row)}
        names = tuple(label_names) or names_of(found, name)
        if len(names) < 2:
            raise DataError(
                f"Task '{name}' has the single label {list(names)[:1]!r}. Give it rows of at least two labels."
            )
        number = numbering(found, names, name)
        classes = [_classes(part, number, names) for part in rows]
        rows = [[{**row, "label": _numbers(row["label"], number, names)} for row in part] for part in rows]
    return TaskData(
        name=name,
        kind=kind,
        train=Dataset.from_list(list(rows[0])),
        validation=Dataset.from_list(list(rows[1])),
        test=Dataset.from_list(list(rows[2])),
        label_names=names,
        fingerprint=fingerprint(kind, rows, names),
        source=source,
        account=tuple(
            _account(split, counted, found, classes[0])
            for split, counted, found in zip(SPLITS, splits, classes, strict=True)
        ),
    )


def fingerprint(kind: str, splits: Sequence[Sequence[Row]], label_names: Sequence[str]) -> str:
    """SHA-256 of a task's contents, independent of file format and machine."""
    digest = hashlib.sha256(json.dumps([kind, list(label_names)]).encode())
    for rows in splits:
        digest.update(b"\x00split\x00")
        for row in rows:
            digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _empty(name: str, split: str, counted: Counted) -> str:
    reasons = ", ".join(f"{count} {reason}" for reason, count in counted.dropped.items())
    why = f" ({counted.read} rows were read: {reasons})" if reasons else ""
    return f"The {split} split of task '{name}' is empty{why}. Give the task other rows for it, or more."


def _labels(row: Row) -> list[str]:
    label = row["label"]
    return label if isinstance(label, list) else [str(label)]


def _classes(rows: Sequence[Row], number: dict[str, int] | Any, names: Sequence[str]) -> dict[str, int]:
    counts = Counter(names[number[label]] for row in rows for label in _labels(row))
    return {name: counts[name] for name in names if counts[name]}


def _numbers(label: Any, number: Any, names: Sequence[str]) -> int | list[int]:
    if not isinstance(label, list):
        return int(number[str(label)])
    there = {number[one] for one in label}
    return [int(position in there) for position in range(len(names))]


def _account(split: str, counted: Counted, classes: dict[str, int], trained: dict[str, int]) -> SplitAccount:
    return SplitAccount(
        split=split,
        read=counted.read,
        used=len(counted.rows),
        dropped=dict(counted.dropped),
        set_aside=dict(counted.set_aside),
        classes=classes,
        unseen=tuple(label for label in classes if trained and label not in trained),
    )
