"""How a task of the user's own is specified: where its rows are, which columns, which splits."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import Any, Literal, get_args

from spectra.data.labels import as_label
from spectra.errors import DataError, first_five

TaskKind = Literal["classification", "regression", "multi-label", "causal-lm", "seq2seq"]
Unit = Literal["paragraph", "line", "file"]
COLUMNS = ("text", "text_pair", "label", "source", "target")
TEXTS = (
    "name", "path", "hub", "config", "revision", "train_split", *COLUMNS, "template", "label_separator",
)  # fmt: skip
# The columns that a task of each kind has; text_pair is optional.
OF_KIND: Mapping[str, tuple[str, ...]] = {
    "classification": ("text", "text_pair", "label"),
    "regression": ("text", "text_pair", "label"),
    "multi-label": ("text", "text_pair", "label"),
    "causal-lm": ("text",),
    "seq2seq": ("source", "target"),
}
LABELLED = ("classification", "regression", "multi-label")
NAMED_LABELS = ("classification", "multi-label")


@dataclass(frozen=True)
class TaskSpec:
    """A task in the user's own files or on the hub.

    Attributes:
        name: What reports call it; from a mapping the name of the file, unless given.
        kind: "classification", "regression", "multi-label", "causal-lm" or "seq2seq"; None takes it from the columns,
            where they leave no doubt.
        path: Training file: .csv, .tsv, .jsonl, .parquet or .txt.
        hub: Id of a hub data set, instead of `path`.
        config: Configuration of the hub data set.
        revision: Commit of the hub data set.
        train_split: Split of the hub data set to train on; None takes "train".
        validation: A file or hub split, or what to set aside of the training rows: a number of rows, or a share
            between 0 and 1. None sets aside a tenth, at most 1,000.
        test: Likewise; None sets aside a tenth, at most 2,000.
        text: Name of the text column; None takes "text".
        text_pair: Name of the second text's column, for tasks about pairs.
        label: Name of the label column; None takes "label".
        source: Name of the input column of a seq2seq task; None takes "source".
        target: Name of its output column; None takes "target".
        template: The input of a seq2seq task written out of columns, such as "Summarise: {article}", in the place of
            `source`.
        label_names: Names by label number, where the column holds numbers or the order matters.
        label_separator: What stands between the labels of a multi-label cell in a text file.
        unit: What one text of a .txt file is: a "paragraph" (up to a blank line), a "line" or the whole "file".
        quotes: Whether quotation marks of a .tsv file enclose fields; None finds out.
        seed: Chooses the rows that are set aside.

    Raises:
        DataError: If a field has no meaning, or not together with another.
    """

    name: str
    kind: TaskKind | None = None
    path: str | None = None
    hub: str | None = None
    config: str | None = None
    revision: str | None = None
    train_split: str | None = None
    validation: str | int | float | None = None
    test: str | int | float | None = None
    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    source: str | None = None
    target: str | None = None
    template: str | None = None
    label_names: tuple[str, ...] = ()
    label_separator: str = ","
    unit: Unit = "paragraph"
    quotes: bool | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.path is None) == (self.hub is None):
            raise self._wrong("must have either `path` or `hub`", "Give exactly one of them.")
        for split in ("validation", "test"):
            self._check_size(split, getattr(self, split))
        self._check_shares()
        self._check_meaning()
        if len(set(self.label_names)) < len(self.label_names):
            raise self._wrong(f"has label_names {list(self.label_names)}", "Name every label once.")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "TaskSpec":
        """A specification from YAML or JSON.

        Raises:
            DataError: If a field is unknown or has no meaning.
        """
        known = [field.name for field in fields(cls)]
        if unknown := sorted(str(name) for name in set(values) - set(known)):
            near = difflib.get_close_matches(unknown[0], known, n=1)
            hint = f"Did you mean {near[0]!r}? " if near else ""
            raise DataError(f"A task has no field {first_five(unknown)}. {hint}Use only: {', '.join(known)}.")
        name = name_of(values)
        _require_types(values, name)
        return cls(**{**values, "name": name, "label_names": _names(values.get("label_names", ()), name)})

    def column(self, role: str) -> str:
        """The name of the column that has this role."""
        return str(getattr(self, role) or role)

    @property
    def names_splits(self) -> bool:
        """Whether it says what the validation or the test split is."""
        return self.validation is not None or self.test is not None

    def _wrong(self, what: str, remedy: str) -> DataError:
        return DataError(f"Task '{self.name}' {what}. {remedy}")

    def _check_size(self, split: str, asked: Any) -> None:
        if asked is None or (isinstance(asked, str) and asked):
            return
        whole = isinstance(asked, int) and not isinstance(asked, bool) and asked > 0
        if not whole and not (isinstance(asked, float) and 0 < asked < 1):
            raise self._wrong(
                f"has {split} {asked!r}", "Give a file, a number of rows of at least 1, or a share between 0 and 1."
            )

    def _check_shares(self) -> None:
        shares = [share for share in (self.validation, self.test) if isinstance(share, float)]
        if sum(shares) >= 1:
            raise self._wrong(f"sets aside {' and '.join(map(str, shares))} of its rows", "Leave some to train on.")

    def _check_meaning(self) -> None:
        """Refuse what would be passed over in silence."""
        if self.path is not None:
            for field in ("config", "revision", "train_split"):
                if getattr(self, field) is not None:
                    raise self._wrong(f"has {field}, which is for hub data sets", "Remove it.")
        if self.validation is not None and self.validation == self.test and isinstance(self.test, str):
            raise self._wrong(f"has '{self.test}' for both validation and test", "Name two different splits.")
        if self.template is not None and self.source is not None:
            raise self._wrong("has both source and template", "Name the column inside the template.")
        kind = self.kind or ("seq2seq" if self.template else None)
        if kind is None:
            return
        strange = [column for column in COLUMNS if getattr(self, column) and column not in OF_KIND[kind]]
        if strange or (self.template and kind != "seq2seq"):
            raise self._wrong(
                f"is of kind {kind} and names {first_five(strange or ['template'])}",
                f"A task of this kind has {', '.join(OF_KIND[kind])} only.",
            )
        if self.label_names and kind not in NAMED_LABELS:
            raise self._wrong(f"is of kind {kind} and has label_names", "Remove them.")


def name_of(values: Mapping[str, Any]) -> str:
    """What a task is called that is described by its fields: by its name, or else by its file or data set."""
    place = values.get("path") or values.get("hub") or ""
    return str(values.get("name") or (PurePath(place).stem if isinstance(place, str) else "") or "task")


def _require_types(values: Mapping[str, Any], task: str) -> None:
    """Refuse values of a type that a field cannot have; sizes of splits are looked at later."""
    for field in TEXTS:
        if field in values and values[field] is not None and not (isinstance(values[field], str) and values[field]):
            raise DataError(f"Task '{task}' has {field} {values[field]!r}. Give a text.")
    for field, choices in (("kind", get_args(TaskKind)), ("unit", get_args(Unit))):
        if values.get(field) not in (None, *choices):
            raise DataError(f"Task '{task}' has {field} {values[field]!r}. Use one of {', '.join(choices)}.")
    if not isinstance(values.get("quotes"), bool | None):
        raise DataError(f"Task '{task}' has quotes {values['quotes']!r}. Use true or false.")
    if not isinstance(values.get("seed", 0), int) or isinstance(values.get("seed"), bool):
        raise DataError(f"Task '{task}' has seed {values['seed']!r}. Give a whole number.")
    for split in ("validation", "test"):
        if not isinstance(values.get(split), str | int | float | None):
            raise DataError(f"Task '{task}' has {split} {values[split]!r}. Give a file, a number or a share.")


def _names(given: Any, task: str) -> tuple[str, ...]:
    """Names of labels from YAML: texts or whole numbers, in a list."""
    remedy = "Write a list of names, in quotes where YAML would read them as something else, such as ['no', 'yes']."
    if not isinstance(given, list | tuple):
        raise DataError(f"Task '{task}' has label_names {given!r}. {remedy}")
    for name in given:
        if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
            raise DataError(f"Task '{task}' has {name!r} among its label_names. {remedy}")
    return tuple(as_label(str(name)) for name in given)
