"""Tables as Parquet and CSV: written whole or not at all, and read within bounds."""

import json
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
    import pyarrow as pa
    import pyarrow.parquet as pq

    require_regular(path, error)
    try:
        with pq.ParquetFile(path) as file:
            cells = file.metadata.num_rows * max(file.metadata.num_columns, 1)
            if cells > MAX_CELLS:
                raise error(f"'{path}' claims {cells} cells, more than the {MAX_CELLS} that are read. Do not use it.")
            return _without_index(file.read()).to_pandas()
    except (pa.ArrowException, OSError, ValueError, OverflowError, TypeError, KeyError, RecursionError) as cause:
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
