"""Tasks from the user's own files: CSV, JSON lines, Parquet, plain text. Every error names file, line and column."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyarrow
import pyarrow.parquet

from spectra.data.columns import Located, checked_rows, infer_kind
from spectra.data.splits import Splits, split, without, without_duplicates
from spectra.data.task import Row, TaskData, TaskKind, TaskSpec, assemble
from spectra.errors import DataError

LARGEST_VALIDATION, LARGEST_TEST = 1000, 2000  # rows set aside when the specification does not say


def load_local_task(spec: TaskSpec) -> TaskData:
    """Read, check, deduplicate and split the files that a specification names."""
    kind, train = _read(Path(spec.path or ""), spec, spec.kind)
    splits = cut(train, spec, given=lambda file: _read(Path(file), spec, kind)[1])
    return assemble(spec.name, kind, splits, source=f"file '{spec.path}'", label_names=spec.label_names)


def cut(train: list[Row], spec: TaskSpec, *, given: Callable[[str], list[Row]]) -> Splits:
    """The three splits: `given` reads one that is named, the others are set aside from the training rows.

    Rows of a named test or validation split are removed from the splits before it, so that all are disjoint.
    """
    test = without_duplicates(given(spec.test)) if isinstance(spec.test, str) else []
    validation = without(without_duplicates(given(spec.validation)), test) if isinstance(spec.validation, str) else []
    rest = without(without_duplicates(train), test, validation)
    sizes = (
        0 if validation else _size(spec.validation, len(rest), LARGEST_VALIDATION),
        0 if test else _size(spec.test, len(rest), LARGEST_TEST),
    )
    rest, more_validation, more_test = split(rest, name=spec.name, validation=sizes[0], test=sizes[1], seed=spec.seed)
    return rest, validation or more_validation, test or more_test


def _size(asked: str | int | None, rows: int, largest: int) -> int:
    return asked if isinstance(asked, int) else max(1, min(largest, rows // 10))


def _read(path: Path, spec: TaskSpec, kind: TaskKind | None) -> tuple[TaskKind, list[Row]]:
    reader = READERS.get(path.suffix)
    if reader is None:
        raise DataError(f"File '{path}' has the suffix {path.suffix!r}. Use one of {', '.join(READERS)}.")
    if not path.is_file():
        raise DataError(f"File '{path}' of task '{spec.name}' does not exist. Check its path.")
    located = list(reader(path))
    if not located:
        raise DataError(f"File '{path}' of task '{spec.name}' has no rows. Give a file with examples.")
    kind = kind or infer_kind(located[0], spec)
    return kind, list(checked_rows(located, spec, kind))


def _separated(delimiter: str) -> Callable[[Path], Iterator[Located]]:
    def read(path: Path) -> Iterator[Located]:
        lines = csv.reader(_text(path).splitlines(keepends=True), delimiter=delimiter, strict=True)
        try:
            header = next(lines, [])
            for cells in lines:
                where = f"'{path}', line {lines.line_num}"
                if len(cells) != len(header):
                    raise DataError(
                        f"{where} has {len(cells)} fields instead of {len(header)}. "
                        "Quote fields that contain the separator or a line break."
                    )
                yield where, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise DataError(
                f"'{path}', line {lines.line_num} is malformed: {error}. Correct the quotation marks."
            ) from error

    return read


def _json_lines(path: Path) -> Iterator[Located]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"'{path}', line {number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"{where}, column {error.colno} is no JSON: {error.msg}. Write one JSON object per line."
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                f"{where} holds a {type(row).__name__} instead of an object. Write one JSON object per line."
            )
        yield where, row


def _parquet(path: Path) -> Iterator[Located]:
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"File '{path}' is no readable Parquet file: {error}. Write it again.") from error
    for number, row in enumerate(rows, start=1):
        yield f"'{path}', row {number}", row


def _paragraphs(path: Path) -> Iterator[Located]:
    start, lines = 1, list[str]()
    for number, line in enumerate([*_text(path).splitlines(), ""], start=1):
        if line.strip():
            start = start if lines else number
            lines.append(line)
        elif lines:
            yield f"'{path}', line {start}", {"text": "\n".join(lines)}
            lines = []


def _text(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"'{path}', line {line} is not UTF-8 (byte 0x{content[error.start]:02x}). Save the file as UTF-8."
        ) from error


READERS: Mapping[str, Callable[[Path], Iterator[Located]]] = {
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".jsonl": _json_lines,
    ".parquet": _parquet,
    ".txt": _paragraphs,
}
