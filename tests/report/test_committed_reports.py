"""The reports in the repository were made by this version of the page and of the tables."""

import csv
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from spectra.report import write_report
from spectra.report.version import page_version, stamped_version
from spectra.runs import BESIDE_RUNS, SCHEMAS

REPORTS = Path(__file__).resolve().parent.parent.parent / "reports"
PAGES = sorted(REPORTS.rglob("*.html"))
TABLES = [
    path
    for path in sorted([*REPORTS.rglob("*.parquet"), *REPORTS.rglob("*.csv")])
    if path.stem in {**SCHEMAS, **BESIDE_RUNS}
]


def columns(table: Path) -> list[str]:
    if table.suffix == ".parquet":
        return list(pq.read_schema(table).names)
    with table.open(encoding="utf-8") as stream:
        return next(csv.reader(stream))


def test_there_are_committed_pages_and_tables() -> None:
    assert PAGES and TABLES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPORTS)))
def test_a_committed_page_was_written_by_this_version(page: Path) -> None:
    assert stamped_version(page) == page_version(), "Run python scripts/store_report.py"


@pytest.mark.parametrize("table", TABLES, ids=lambda table: str(table.relative_to(REPORTS)))
def test_a_committed_table_has_the_columns_of_this_version(table: Path) -> None:
    wanted = [column.name for column in {**SCHEMAS, **BESIDE_RUNS}[table.stem]]
    assert columns(table)[: len(wanted)] == wanted, "Run the command beside the report again"


def test_a_page_carries_the_version_that_wrote_it(run_folder: Path, tmp_path: Path) -> None:
    page = write_report(run_folder, tmp_path / "report.html")
    assert stamped_version(page) == page_version()
    page.write_text(page.read_text(encoding="utf-8").replace(page_version(), "0123456789ab"), encoding="utf-8")
    assert stamped_version(page) == "0123456789ab"
    page.write_text('<html><meta name="generator" content="spectra"></html>', encoding="utf-8")
    assert stamped_version(page) == ""


def test_the_version_follows_the_code_of_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = page_version.__wrapped__()
    monkeypatch.setattr("spectra.report.version.SCHEMAS", {name: SCHEMAS[name] for name in list(SCHEMAS)[1:]})
    assert page_version.__wrapped__() != before
