"""Tables as Parquet and CSV: written whole or not at all, and read within bounds."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.errors import SpectraError, visible
from spectra.storage.atomic import replacing
from spectra.storage.regular import require_regular

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

# A table of repeated values may take a few kilobytes on disk and all memory once it is read.
MAX_CELLS = 200_000_000
MAX_BYTES = 2_000_000_000
BATCH_ROWS = 1 << 15
MARK = b"spectra"
# A spreadsheet takes a text that begins with one of these for a formula, and runs it.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_parquet(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as Parquet, whole or not at all; the file says that it is a table of spectra."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    with replacing(path) as partial:
        pq.write_table(arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), MARK: b"1"}), partial)


def is_own_parquet(path: Path) -> bool:
    """True for a Parquet file that `write_parquet` wrote."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return MARK in (pq.read_schema(path).metadata or {})
    except (pa.ArrowException, OSError):
        return False


def read_parquet(path: Path, *, error: type[SpectraError]) -> "pd.DataFrame":
    """Read a table that others may have made.

    Raises:
        SpectraError: Of the kind `error`, if it is no regular file, no Parquet, or too large for a table.
    """
    with _told_by_arrow(path, error):
        return _without_index(read_arrow(path, error=error)).to_pandas()


def read_arrow(path: Path, *, error: type[SpectraError]) -> "pa.Table":
    """Read a Parquet file within bounds, whatever it says about its size.

    Texts that are stored once and used often stay so until their whole size is known: a file of a megabyte may stand
    for terabytes.

    Raises:
        SpectraError: Of the kind `error`, if it is no regular file, no Parquet, or too large for a table.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_regular(path, error)
    with _told_by_arrow(path, error), pq.ParquetFile(path) as file:
        columns = [file.schema.column(number) for number in range(len(file.schema))]
        told = file.metadata
        groups = [told.row_group(number) for number in range(told.num_row_groups)]
        values = sum(group.column(number).num_values for group in groups for number in range(group.num_columns))
        _require_bounded(
            path,
            max(told.num_rows * max(len(columns), 1), values),
            sum(group.total_byte_size for group in groups),
            error,
        )
        schema = _without_views(file.schema_arrow)
        texts = [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]
    batches: list[pa.RecordBatch] = []
    cells = size = 0
    with _told_by_arrow(path, error), pq.ParquetFile(path, read_dictionary=texts) as file:
        for batch in file.iter_batches(batch_size=BATCH_ROWS):
            cells += batch.num_rows * max(batch.num_columns, 1)
            size += sum(_expanded_bytes(column) for column in batch.columns)
            _require_bounded(path, cells, size, error)
            batches.append(batch)
        counts = {told.num_rows, sum(group.num_rows for group in groups), sum(batch.num_rows for batch in batches)}
        if len(counts) > 1:
            raise error(f"'{path}' has another number of rows than the {told.num_rows} that it claims. Write it again.")
        return pa.Table.from_batches(batches, schema=file.schema_arrow).cast(schema)


def _without_views(schema: "pa.Schema") -> "pa.Schema":
    """The schema with plain texts in the place of views, which pyarrow makes of no dictionary."""
    import pyarrow as pa

    plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    return pa.schema([field.with_type(plain.get(field.type, field.type)) for field in schema], metadata=schema.metadata)


def _require_bounded(path: Path, cells: int, size: int, error: type[SpectraError]) -> None:
    if cells > MAX_CELLS or size > MAX_BYTES:
        raise error(
            f"'{path}' claims {cells} cells and {size} bytes, more than the {MAX_CELLS} cells and {MAX_BYTES} bytes "
            "that are read. Give a smaller file."
        )


def _expanded_bytes(column: "pa.Array") -> int:
    """The memory of a column whose every text is written out."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(column, pa.MapArray):
        return _expanded_bytes(column.keys) + _expanded_bytes(column.items)
    if isinstance(column, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        return _expanded_bytes(column.flatten())
    if isinstance(column, pa.StructArray):
        return sum(_expanded_bytes(field) for field in column.flatten())
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    if pa.types.is_primitive(column.type.value_type):
        return int(len(column) * column.type.value_type.bit_width // 8)
    lengths = pc.binary_length(column.dictionary)
    return int(pc.sum(pc.cast(pc.take(lengths, column.indices), pa.int64())).as_py() or 0)


@contextmanager
def _told_by_arrow(path: Path, error: type[SpectraError]) -> Iterator[None]:
    """One sentence for whatever pyarrow raises about a broken file."""
    import pyarrow as pa

    try:
        yield
    except (
        pa.ArrowException, OSError, ValueError, OverflowError, TypeError, KeyError, AttributeError, RecursionError,
        MemoryError,
    ) as cause:  # fmt: skip
        reason = str(cause).splitlines()[0].rstrip(".") if str(cause) else type(cause).__name__
        raise error(f"'{path}' is no readable Parquet file: {reason}. Write it again.") from cause


def _without_index(arrow: "pa.Table") -> "pa.Table":
    """The table without the index that its file describes: pandas would build it as described, however long."""
    metadata = dict(arrow.schema.metadata or {})
    if b"pandas" in metadata:
        metadata[b"pandas"] = json.dumps({**json.loads(metadata[b"pandas"]), "index_columns": []}).encode()
    return arrow.replace_schema_metadata(metadata)


def write_csv(path: Path, table: "pd.DataFrame") -> None:
    """Write a table as CSV, whole or not at all; floats keep 17 digits where they need them."""
    with replacing(path) as partial:
        partial.write_text(csv_text(table), encoding="utf-8")


def csv_text(table: "pd.DataFrame") -> str:
    """A table as CSV whose texts neither steer a terminal nor are formulas of a spreadsheet."""
    texts = [name for name in table if any(isinstance(value, str) for value in table[name])]
    return table.assign(**{str(name): [_harmless(value) for value in table[name]] for name in texts}).to_csv(
        index=False, lineterminator="\n"
    )


def _harmless(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return f"'{visible(value)}" if value.startswith(FORMULA) else visible(value)
