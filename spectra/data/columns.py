"""From a file's columns to a task's: which kind the columns make, and whether each cell can be used.

The kind is stated, or it is certain; where the columns leave a doubt the task is refused with what would settle it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from string import Formatter
from typing import Any

from spectra.data.labels import as_label
from spectra.data.readers import Located
from spectra.data.rows import Row
from spectra.data.spec import OF_KIND, TaskKind, TaskSpec
from spectra.errors import DataError, first_five

MANY_CLASSES = 20  # from here on labels have to repeat to be taken for classes
ROWS_PER_CLASS = 5


def decide_kind(located: Sequence[Located], spec: TaskSpec) -> TaskKind:
    """The kind that a task states, or that the columns of its training rows make without a doubt.

    Raises:
        DataError: If a named column is not there, or the columns fit several kinds or none.
    """
    columns = list(dict.fromkeys(column for _, row in located for column in row))
    where = located[0][0]
    _require_named(columns, where, spec)
    if spec.kind is not None:
        return spec.kind
    has = {role for role in ("text", "label", "source", "target") if spec.column(role) in columns}
    wanted = {role for role in ("text", "label", "source", "target") if getattr(spec, role)}
    pairs = spec.template is not None or {"source", "target"} <= has
    labelled = {"text", "label"} <= has
    if pairs and labelled and not wanted:
        raise _doubt(spec, columns, where, "fit a classification and a task of sources and targets", "kind")
    if pairs and not wanted & {"text", "label"}:
        return "seq2seq"
    if labelled:
        return _labelled_kind([row.get(spec.column("label")) for _, row in located], spec)
    if "text" in has and (others := [column for column in columns if column != spec.column("text")]):
        raise _doubt(
            spec,
            columns,
            where,
            f"have no '{spec.column('label')}', and {first_five(others)} may be labels or may not",
            "the column with `label`, or plain texts with `kind: causal-lm`",
        )
    if "text" in has:
        return "causal-lm"
    raise DataError(
        f"{where} has the columns {', '.join(map(str, columns)) or 'none'}, but neither '{spec.column('text')}' nor "
        f"'{spec.column('source')}' and '{spec.column('target')}'. Name the columns of task '{spec.name}'."
    )


def _require_named(columns: Sequence[str], where: str, spec: TaskSpec) -> None:
    """Refuse a column that the specification names and no row has."""
    named = [getattr(spec, role) for role in ("text", "text_pair", "label", "source", "target") if getattr(spec, role)]
    named += _fields(spec.template) if spec.template else []
    if missing := [name for name in named if name not in columns]:
        raise DataError(
            f"{where} has no column '{missing[0]}' (it has {', '.join(map(str, columns))}). "
            f"Correct the column names of task '{spec.name}'."
        )


def _doubt(spec: TaskSpec, columns: Sequence[str], where: str, why: str, remedy: str) -> DataError:
    return DataError(
        f"The columns of task '{spec.name}' ({where}: {', '.join(map(str, columns))}) {why}. State {remedy}."
    )


def _labelled_kind(labels: Sequence[Any], spec: TaskSpec) -> TaskKind:
    """Classification or multi-label, if the labels cannot be anything else."""
    lists = sum(isinstance(label, list) for label in labels)
    if lists == len(labels):
        return "multi-label"
    if spec.label_names:
        return "classification"
    texts = [str(label).strip() for label in labels if label is not None and not isinstance(label, list)]
    distinct = set(texts)
    numbers = [number for text in distinct if (number := _number(text)) is not None]
    column = f"The labels of task '{spec.name}' (column '{spec.column('label')}')"
    remedy = "State `kind: regression` for scores, or `kind: classification` for classes."
    if len(numbers) == len(distinct) and any(not number.is_integer() for number in numbers):
        raise DataError(f"{column} are numbers such as {_odd(distinct)}: scores, or names of classes. {remedy}")
    if len(distinct) > MANY_CLASSES and len(texts) < ROWS_PER_CLASS * len(distinct):
        raise DataError(f"{column} have {len(distinct)} different values in {len(texts)} rows. {remedy}")
    if len(numbers) == len(distinct) > MANY_CLASSES and not _consecutive(numbers):
        raise DataError(f"{column} are {len(distinct)} whole numbers with gaps: scores, or classes. {remedy}")
    return "classification"


def _odd(texts: set[str]) -> str:
    return min(text for text in texts if not float(text).is_integer())


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _consecutive(numbers: Sequence[float]) -> bool:
    return min(numbers) in (0.0, 1.0) and max(numbers) - min(numbers) + 1 == len(set(numbers))


def checked_rows(located: Sequence[Located], spec: TaskSpec, kind: TaskKind) -> Iterator[Row]:
    """Rows with a task's own column names; labels as text, as a list of texts, or as a number for regression.

    Raises:
        DataError: At the first cell that is missing, empty or of another type.
    """
    for where, row in located:
        if kind == "seq2seq":
            source = _filled(row, spec.template, where) if spec.template else _text(row, spec.column("source"), where)
            yield {"source": source, "target": _text(row, spec.column("target"), where)}
            continue
        texts = {"text": _text(row, spec.column("text"), where)}
        if spec.text_pair is not None and "text_pair" in OF_KIND[kind]:
            texts["text_pair"] = _text(row, spec.text_pair, where)
        if kind == "causal-lm":
            yield texts
        else:
            yield {**texts, "label": _label(row, spec, kind, where)}


def _cell(row: Mapping[str, Any], column: str, where: str) -> Any:
    if column not in row:
        raise DataError(
            f"{where} has no column '{column}' (it has {', '.join(map(str, row)) or 'no columns'}). "
            "Name the column in the task."
        )
    return row[column]


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = _cell(row, column, where)
    if not isinstance(value, str):
        raise DataError(f"{where}, column '{column}' holds {value!r} instead of a text. Correct or remove this row.")
    if not value.strip():
        raise DataError(f"{where}, column '{column}' is empty. Correct or remove this row.")
    return _encodable(value, column, where)


def _encodable(text: str, column: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}, column '{column}' holds half of a character ({text[error.start]!a}). Correct or remove this row."
        ) from error
    return text


def _filled(row: Mapping[str, Any], template: str, where: str) -> str:
    values = {field: _text(row, field, where) for field in _fields(template)}
    return "".join(before + (values[field] if field else "") for before, field in _parts(template))


def _parts(template: str) -> list[tuple[str, str | None]]:
    """The template as texts, each followed by a column's name or by nothing."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise DataError(f"The template {template!r} is malformed: {error}. Write columns as {{name}}.") from error
    return [(before, field) for before, field, _, _ in parts]


def _fields(template: str) -> list[str]:
    fields = [field for _, field in _parts(template) if field is not None]
    if not fields or "" in fields:
        raise DataError(f"The template {template!r} names no column. Write columns as {{name}}.")
    return fields


def _label(row: Mapping[str, Any], spec: TaskSpec, kind: TaskKind, where: str) -> Any:
    column = spec.column("label")
    value = _cell(row, column, where)
    if kind == "regression":
        return _score(value, column, where)
    if kind == "multi-label":
        return _several(value, spec, where)
    return _one(value, column, where)


def _one(value: Any, column: str, where: str) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int) or not str(value).strip():
        raise DataError(f"{where}, column '{column}' holds {value!r} instead of a label. Use a name or a whole number.")
    return _encodable(as_label(str(int(value) if isinstance(value, bool) else value)), column, where)


def _score(value: Any, column: str, where: str) -> float:
    number = None if isinstance(value, bool) or value is None else _number(str(value).strip())
    if number is None:
        raise DataError(f"{where}, column '{column}' holds {value!r} instead of a score. Use a finite number.")
    return number


def _several(value: Any, spec: TaskSpec, where: str) -> list[str]:
    """The labels of a row, each once, in alphabetical order; a row may have none."""
    if isinstance(value, str):
        value = [part for part in value.split(spec.label_separator) if part.strip()]
    if not isinstance(value, list):
        raise DataError(
            f"{where}, column '{spec.column('label')}' holds {value!r} instead of labels. "
            f"Use a list, or names with '{spec.label_separator}' between them."
        )
    return sorted({_one(label, spec.column("label"), where) for label in value})
