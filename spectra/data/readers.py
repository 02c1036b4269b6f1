"""Readers of file formats: rows with the place where each stands, nothing decided about tasks."""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from spectra.data.spec import Unit
from spectra.errors import DataError, first_five
from spectra.storage.regular import read_regular
from spectra.storage.tables import read_arrow

MAX_BYTES = 2_000_000_000
Located = tuple[str, Mapping[str, Any]]  # where a row stands, in words, and the row
LINE_END = re.compile(r"\r\n|\r|\n")  # of a text file; U+2028, NEL and form feed belong to the text

csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # a document may be longer than the module's 128 KiB


@dataclass(frozen=True)
class Reading:
    """What a reader has to be told about a file.

    Attributes:
        unit: What one text of a .txt file is.
        quotes: Whether quotation marks of a .tsv file enclose fields; None finds out.
    """

    unit: Unit = "paragraph"
    quotes: bool | None = None


def _comma_separated(path: Path, reading: Reading) -> Iterator[Located]:
    """RFC 4180: a quoted field may hold separators, line breaks and doubled quotation marks."""
    yield from _separated(path, _text(path), ",", quotes=True)


def _tab_separated(path: Path, reading: Reading) -> Iterator[Located]:
    text = _text(path)
    quotes = _encloses_fields(text) if reading.quotes is None else reading.quotes
    yield from _separated(path, text, "\t", quotes=quotes)


def _encloses_fields(text: str) -> bool:
    """Whether the quotation marks of a tab-separated text enclose fields, or are characters like any other.

    The registered format (text/tab-separated-values) knows no quoting, and corpora such as GLUE are written so; data
    frames write it as CSV with another separator. It is quoted if it can be read so, and its lines alone make no
    table, or every quoted field had to be quoted, or a whole column is.
    """
    if '"' not in text:
        return False
    plain = list(_cells(text, "\t", quotes=False))
    try:
        quoted = list(_cells(text, "\t", quotes=True))
    except csv.Error:
        return False
    widths = {len(cells) for cells in plain}
    if len(widths) > 1:
        return len({len(cells) for cells in quoted}) == 1
    if len(quoted) < len(plain):
        return False
    differ = [
        (column, was, now)
        for was_row, now_row in zip(plain, quoted, strict=True)
        for column, (was, now) in enumerate(zip(was_row, now_row, strict=True))
        if was != now
    ]
    if all('"' in now for _, _, now in differ):
        return True
    columns = {column for column, _, _ in differ}
    rows = plain[1:] or plain
    return all(all(cells[column].startswith('"') for cells in rows) for column in columns)


def _cells(text: str, delimiter: str, *, quotes: bool) -> Iterator[list[str]]:
    return (cells for cells in _csv_reader(text, delimiter, quotes=quotes) if cells)


def _csv_reader(text: str, delimiter: str, *, quotes: bool) -> Any:
    stream = io.StringIO(text, newline="")
    if quotes:
        return csv.reader(stream, delimiter=delimiter, strict=True)
    return csv.reader(stream, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)


def _separated(path: Path, text: str, delimiter: str, *, quotes: bool) -> Iterator[Located]:
    lines = _csv_reader(text, delimiter, quotes=quotes)
    try:
        header: list[str] = next((cells for cells in lines if cells), [])
        _require_distinct(header, f"The header of '{path}'")
        for cells in lines:
            if not cells:  # a blank line, as at the end of a file
                continue
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


def _json_lines(path: Path, reading: Reading) -> Iterator[Located]:
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"'{path}', line {number}"
        try:
            row = json.loads(line, object_pairs_hook=partial(_object, where))
        except json.JSONDecodeError as error:
            raise DataError(
                f"{where}, column {error.colno} is no JSON: {error.msg}. Write one JSON object per line."
            ) from error
        except RecursionError as error:
            raise DataError(f"{where} is nested too deeply. Write one JSON object per line.") from error
        except ValueError as error:  # a whole number of thousands of digits
            raise DataError(f"{where} holds a number with too many digits. Write it as a text.") from error
        if not isinstance(row, dict):
            raise DataError(
                f"{where} holds a {type(row).__name__} instead of an object. Write one JSON object per line."
            )
        yield where, row


def _object(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _require_distinct([key for key, _ in pairs], where)
    return dict(pairs)


def _parquet(path: Path, reading: Reading) -> Iterator[Located]:
    table = read_arrow(path, error=DataError)
    _require_distinct(table.column_names, f"File '{path}'")
    for number, row in enumerate(table.to_pylist(), start=1):
        yield f"'{path}', row {number}", row


def _plain_text(path: Path, reading: Reading) -> Iterator[Located]:
    text = _text(path)
    if reading.unit == "file":
        yield f"'{path}'", {"text": text}
        return
    start, lines = 1, list[str]()
    for number, line in enumerate([*LINE_END.split(text), ""], start=1):
        if reading.unit == "line":
            if line.strip():
                yield f"'{path}', line {number}", {"text": line}
        elif line.strip():
            start = start if lines else number
            lines.append(line)
        elif lines:
            yield f"'{path}', line {start}", {"text": "\n".join(lines)}
            lines = []


def _require_distinct(columns: list[str], where: str) -> None:
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise DataError(f"{where} has the column {first_five(twice)} more than once. Give every column its own name.")


def _text(path: Path) -> str:
    content = read_regular(path, MAX_BYTES, DataError)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"'{path}', line {line} is not UTF-8 (byte 0x{content[error.start]:02x}). Save the file as UTF-8."
        ) from error


READERS: Mapping[str, Callable[[Path, Reading], Iterator[Located]]] = {
    ".csv": _comma_separated,
    ".tsv": _tab_separated,
    ".jsonl": _json_lines,
    ".parquet": _parquet,
    ".txt": _plain_text,
}
