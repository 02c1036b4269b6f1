"""From a file's columns to a task's: which kind the columns make, and whether each cell can be used."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from spectra.data.task import Row, TaskKind, TaskSpec
from spectra.errors import DataError

Located = tuple[str, Mapping[str, Any]]  # where a row stands, in words, and the row


def infer_kind(located: Located, spec: TaskSpec) -> TaskKind:
    """The kind that the columns of a row make."""
    where, row = located
    if spec.source in row and spec.target in row:
        return "seq2seq"
    if spec.text in row:
        return "classification" if spec.label in row else "causal-lm"
    raise DataError(
        f"{where} has the columns {', '.join(map(str, row)) or 'none'}, but neither '{spec.text}' nor '{spec.source}' "
        f"and '{spec.target}'. Name the columns of task '{spec.name}'."
    )


def checked_rows(rows: Iterable[Located], spec: TaskSpec, kind: TaskKind) -> Iterator[Row]:
    """Rows with a task's own column names; labels as text.

    Raises:
        DataError: At the first cell that is missing, empty or of another type.
    """
    for where, row in rows:
        if kind == "seq2seq":
            yield {"source": _text(row, spec.source, where), "target": _text(row, spec.target, where)}
        elif kind == "causal-lm":
            yield {"text": _text(row, spec.text, where)}
        else:
            pair = {} if spec.text_pair is None else {"text_pair": _text(row, spec.text_pair, where)}
            yield {"text": _text(row, spec.text, where), **pair, "label": _label(row, spec.label, where)}


def _cell(row: Mapping[str, Any], column: str, where: str) -> Any:
    if column not in row:
        raise DataError(
            f"{where} has no column '{column}' (it has {', '.join(map(str, row))}). Name the column in the task."
        )
    return row[column]


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = _cell(row, column, where)
    if not isinstance(value, str):
        raise DataError(f"{where}, column '{column}' holds {value!r} instead of a text. Correct or remove this row.")
    if not value.strip():
        raise DataError(f"{where}, column '{column}' is empty. Correct or remove this row.")
    return value


def _label(row: Mapping[str, Any], column: str, where: str) -> str:
    value = _cell(row, column, where)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, str | int) or not str(value).strip():
        raise DataError(f"{where}, column '{column}' holds {value!r} instead of a label. Use a name or a whole number.")
    return str(int(value) if isinstance(value, bool) else value).strip()
