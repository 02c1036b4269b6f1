"""What a task is: three disjoint splits with known columns; and how a task of the user's own is specified."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from datasets import Dataset

from spectra.errors import DataError, first_five

TaskKind = Literal["classification", "causal-lm", "seq2seq"]
Row = dict[str, Any]

COLUMNS: Mapping[TaskKind, tuple[str, ...]] = {
    "classification": ("text", "label"),
    "causal-lm": ("text",),
    "seq2seq": ("source", "target"),
}


@dataclass(frozen=True, eq=False)
class TaskData:
    """A task ready for training or measuring.

    Attributes:
        name: What reports call it.
        kind: Decides the columns: "classification" has `text` (and `text_pair` where the task is about pairs) and
            an integer `label`; "causal-lm" has `text`; "seq2seq" has `source` and `target`.
        train: Training split.
        validation: For every choice that is made while training.
        test: Touched once, at the end.
        label_names: Names by label number; empty unless the kind is "classification".
        fingerprint: SHA-256 of everything above but the name.
        source: Where the rows came from, in words.
    """

    name: str
    kind: TaskKind
    train: Dataset
    validation: Dataset
    test: Dataset
    label_names: tuple[str, ...]
    fingerprint: str
    source: str


@dataclass(frozen=True)
class TaskSpec:
    """A task in the user's own files or on the hub.

    Attributes:
        name: What reports call it.
        kind: None infers it from the columns that are there.
        path: Training file: .csv, .tsv, .jsonl, .parquet, or .txt with one text per paragraph.
        hub: Id of a hub data set, instead of `path`.
        config: Configuration of the hub data set.
        revision: Commit of the hub data set.
        train_split: Split of the hub data set to train on.
        validation: A file or hub split, or the number of training rows to set aside; None sets aside a tenth,
            at most 1,000.
        test: Likewise; None sets aside a tenth, at most 2,000.
        text: Name of the text column.
        text_pair: Name of the second text's column, for tasks about pairs.
        label: Name of the label column.
        source: Name of the input column of a seq2seq task.
        target: Name of its output column.
        label_names: Names by label number, where the column holds numbers or the order matters.
        seed: Chooses the rows that are set aside.
    """

    name: str
    kind: TaskKind | None = None
    path: str | None = None
    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    train_split: str = "train"
    validation: str | int | None = None
    test: str | int | None = None
    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    source: str = "source"
    target: str = "target"
    label_names: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.path is None) == (self.hub is None):
            raise DataError(f"Task '{self.name}' must have either `path` or `hub`. Give exactly one of them.")
        if self.kind is not None and self.kind not in get_args(TaskKind):
            raise DataError(f"Task '{self.name}' has kind {self.kind!r}. Use one of {', '.join(get_args(TaskKind))}.")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "TaskSpec":
        """A specification from YAML or JSON.

        Raises:
            DataError: If a field is unknown or `name` is missing.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(set(values) - set(known)):
            raise DataError(f"A task has no field {first_five(unknown)}. Use only: {', '.join(known)}.")
        if "name" not in values:
            raise DataError("A task specification lacks `name`. Give the task a name.")
        return cls(**{**values, "label_names": tuple(values.get("label_names", ()))})


def assemble(
    name: str,
    kind: TaskKind,
    splits: tuple[Sequence[Row], Sequence[Row], Sequence[Row]],
    *,
    source: str,
    label_names: Sequence[str] = (),
) -> TaskData:
    """Turn rows into a task. A classification row's `label` is a name (or number) and becomes its position.

    Raises:
        DataError: If a split is empty, a label is not among `label_names`, or there is only one label.
    """
    for split, rows in zip(("train", "validation", "test"), splits, strict=True):
        if not rows:
            raise DataError(f"The {split} split of task '{name}' is empty. Give the task more rows.")
    names = tuple(label_names) if kind == "classification" else ()
    if kind == "classification":
        names = names or _names(row["label"] for rows in splits for row in rows)
        if len(names) < 2:
            raise DataError(f"Task '{name}' has the single label {names[0]!r}. Give it rows of at least two labels.")
        number = {label: position for position, label in enumerate(names)}
        number |= {str(position): position for position in range(len(names)) if str(position) not in number}
        if unknown := sorted({str(row["label"]) for rows in splits for row in rows} - set(number)):
            raise DataError(
                f"Task '{name}' has labels that are not in `label_names` {list(names)}: {first_five(unknown)}. "
                "Add them."
            )
        train, validation, test = ([{**row, "label": number[str(row["label"])]} for row in rows] for rows in splits)
        splits = (train, validation, test)
    return TaskData(
        name=name,
        kind=kind,
        train=Dataset.from_list(list(splits[0])),
        validation=Dataset.from_list(list(splits[1])),
        test=Dataset.from_list(list(splits[2])),
        label_names=names,
        fingerprint=fingerprint(kind, splits, names),
        source=source,
    )


def fingerprint(kind: str, splits: Sequence[Sequence[Row]], label_names: Sequence[str]) -> str:
    """SHA-256 of a task's contents, independent of file format and machine."""
    digest = hashlib.sha256(json.dumps([kind, list(label_names)]).encode())
    for rows in splits:
        digest.update(b"\x00split\x00")
        for row in rows:
            digest.update(json.dumps(row, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _names(labels: Any) -> tuple[str, ...]:
    """Distinct labels: numbers in numerical order, names in alphabetical order."""
    found = {str(label) for label in labels}
    numeric = all(label.isdecimal() for label in found)
    return tuple(sorted(found, key=int) if numeric else sorted(found))
