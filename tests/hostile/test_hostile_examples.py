"""Files of examples that would hang or fill: each is refused in one sentence within seconds."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from spectra.data import TaskSpec, load_task, readers
from spectra.errors import DataError
from spectra.storage import tables


def huge(path: Path) -> None:
    """A few kilobytes that claim more cells than are read."""
    pq.write_table(pa.table({"text": pa.repeat("x", 20_000)}), path)


def large(path: Path) -> None:
    path.write_bytes(b"x" * 20_000)


HOSTILE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "FIFO": ("a.jsonl", os.mkfifo, "is a FIFO"),
    "FIFO of a table": ("a.parquet", os.mkfifo, "is a FIFO"),
    "device": ("a.txt", lambda path: path.symlink_to("/dev/zero"), "is a device"),
    "folder": ("a.csv", Path.mkdir, "is a folder"),
    "deep": ("a.jsonl", lambda path: path.write_text('{"a":' * 200_000), "nested too deeply"),
    "digits": ("a.jsonl", lambda path: path.write_text('{"text": ' + "9" * 9999 + "}"), "too many digits"),
    "large": ("a.txt", large, "has 20000 bytes, more than"),
    "a table of many cells": ("a.parquet", huge, "claims 20000 cells"),
    "no table": ("a.parquet", lambda path: path.write_bytes(b"PAR1" * 9), "is no readable Parquet file"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["path", "test"])
def test_a_hostile_file_of_examples_is_refused_in_one_sentence(
    name: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "MAX_BYTES", 10_000 if name == "large" else 10_000_000)
    monkeypatch.setattr(tables, "MAX_CELLS", 10_000)
    file, make, told = HOSTILE[name]
    make(tmp_path / file)
    good = tmp_path / "good.jsonl"
    good.write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(20)))
    given = {"path": str(good), place: str(tmp_path / file)}
    began = time.process_time()
    with pytest.raises(DataError, match=told) as refusal:
        load_task(TaskSpec("t", **given))
    assert time.process_time() - began < 5.0
    assert "\n" not in str(refusal.value)


def test_a_small_table_that_expands_without_bound_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_BYTES", 1_000_000)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [f"{i}{'x' * 20_000}" for i in range(100)]}), path, compression="zstd")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(DataError, match="claims 100 cells and 20"):
        load_task(str(path))


@pytest.mark.parametrize("nested", [False, True])
def test_a_text_that_is_stored_once_and_used_often_is_not_written_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nested: bool
) -> None:
    monkeypatch.setattr(tables, "MAX_BYTES", 1_000_000)
    path = tmp_path / "a.parquet"
    text = pa.array(["x" * 100_000] * 50)
    column = pa.ListArray.from_arrays(range(len(text) + 1), text) if nested else text
    pq.write_table(pa.table({"text": column}), path, compression="none")
    assert path.stat().st_size < 200_000  # and stands for 5 MB
    began = time.process_time()
    with pytest.raises(DataError, match=r"more than the .* bytes that are read"):
        load_task(str(path))
    assert time.process_time() - began < 5.0


def test_the_index_that_a_table_describes_is_not_built(tmp_path: Path) -> None:
    index = {"kind": "range", "name": None, "start": 0, "stop": 2**31, "step": 1}
    described = json.dumps({"index_columns": [index], "columns": []}).encode()
    table = pa.table({"text": [f"text {i}" for i in range(20)]}).replace_schema_metadata({b"pandas": described})
    pq.write_table(table, tmp_path / "a.parquet")
    began = time.process_time()
    assert len(load_task(str(tmp_path / "a.parquet")).train) == 18 - 2
    assert time.process_time() - began < 5.0
