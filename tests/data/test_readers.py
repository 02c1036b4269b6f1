"""Files as other software writes them are read cell by cell as they were written."""

import csv
import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spectra.data.readers import READERS, Reading

ODD = "a b,\t\"'\n\x0b\x0c\x1c\x85\u2028\u2029;|é😀"
CELL = st.text(ODD, min_size=1, max_size=6).filter(lambda text: text.strip() != "")
ROWS = st.lists(st.tuples(CELL, CELL), min_size=1, max_size=5)


def cells(path: Path, **reading: object) -> list[tuple[str, str]]:
    rows = READERS[path.suffix](path, Reading(**reading))  # type: ignore[arg-type]
    return [(row["text"], row["label"]) for _, row in rows]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_what_a_data_frame_writes_is_read_as_it_was(tmp_path: Path, rows: list[tuple[str, str]]) -> None:
    frame = pd.DataFrame(rows, columns=["text", "label"])
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    assert cells(tmp_path / "a.csv") == rows
    assert cells(tmp_path / "a.tsv", quotes=True) == rows


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_and_a_byte_order_mark_are_read(tmp_path: Path, end: str) -> None:
    file = tmp_path / "a.csv"
    file.write_bytes(("\ufefftext,label" + end + "NA,null" + end + end + '"a' + end + 'b",2' + end).encode())
    assert cells(file) == [("NA", "null"), (f"a{end}b", "2")]


def test_blank_lines_may_stand_before_the_header(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\r\n\ntext,label\na,b\n")
    assert cells(tmp_path / "a.csv") == [("a", "b")]


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_every_kind_of_text_of_a_parquet_file_is_read(tmp_path: Path, kind: pa.DataType) -> None:
    table = pa.table({"text": pa.array(["a", "b", "a"]).cast(kind), "label": ["x", "y", "x"]})
    pq.write_table(table, tmp_path / "a.parquet")
    assert cells(tmp_path / "a.parquet") == [("a", "x"), ("b", "y"), ("a", "x")]


def test_a_cell_may_be_longer_than_the_csv_module_expects(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"text,label\n{'x' * 200_000},1\n")
    assert len(cells(tmp_path / "a.csv")[0][0]) == 200_000


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        # A corpus without quoting: marks are characters, wherever they stand.
        (['"great film', 'bad "film', 'fine film"'], ['"great film', 'bad "film', 'fine film"']),
        (['"Quoted whole."', "plain"], ['"Quoted whole."', "plain"]),
        (['"Wow" he said', "plain"], ['"Wow" he said', "plain"]),
        (['"opened here', 'and closed here"'], ['"opened here', 'and closed here"']),
        # A table that a data frame wrote: marks enclose what has to be enclosed, or a whole column.
        (['"a ""big"" one"', "plain"], ['a "big" one', "plain"]),
        (['"has\ttab"', "plain"], ["has\ttab", "plain"]),
        (['"one"', '"two"'], ["one", "two"]),
    ],
)
def test_quotation_marks_of_a_tsv_are_read_as_it_was_written(
    tmp_path: Path, lines: list[str], expected: list[str]
) -> None:
    file = tmp_path / "a.tsv"
    file.write_text("text\tlabel\n" + "".join(f"{line}\t1\n" for line in lines), encoding="utf-8")
    assert [text for text, _ in cells(file)] == expected


def test_the_quoting_of_a_tsv_can_be_stated(tmp_path: Path) -> None:
    file = tmp_path / "a.tsv"
    file.write_text('text\tlabel\n"one"\t1\n"two"\t1\n')
    assert [text for text, _ in cells(file, quotes=False)] == ['"one"', '"two"']


def test_a_fully_quoted_table_is_read_like_the_csv_module_reads_it(tmp_path: Path) -> None:
    stream = io.StringIO()
    csv.writer(stream, delimiter="\t", quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [["text", "label"], ["a b", "1"], ['say "x"', "2"]]
    )
    (tmp_path / "a.tsv").write_text(stream.getvalue())
    assert cells(tmp_path / "a.tsv") == [("a b", "1"), ('say "x"', "2")]


@pytest.mark.parametrize(
    ("unit", "texts"),
    [
        ("paragraph", ["a\u2028b\x85c\nd", "e"]),
        ("line", ["a\u2028b\x85c", "d", "e"]),
        ("file", ["a\u2028b\x85c\r\nd\r\n\r\ne\n"]),
    ],
)
def test_the_unit_of_a_text_file_can_be_chosen(tmp_path: Path, unit: str, texts: list[str]) -> None:
    (tmp_path / "a.txt").write_bytes("a\u2028b\x85c\r\nd\r\n\r\ne\n".encode())
    read = READERS[".txt"](tmp_path / "a.txt", Reading(unit))  # type: ignore[arg-type]
    assert [row["text"] for _, row in read] == texts
