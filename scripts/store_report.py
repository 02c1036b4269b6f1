"""Keep what a report is rendered from, and render it: the tables of a run without its weights.

    python scripts/store_report.py runs/demo reports/demo      # take over the tables of a run, and render
    python scripts/store_report.py                             # render every stored report again by today's code

The second form trains nothing and takes seconds; a test asks for it when the page or the tables have changed.
"""

import argparse
import shutil
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from spectra.report import report_on
from spectra.report.study_page import write_study_report

REPORTS = Path(__file__).resolve().parent.parent / "reports"
STORED = "run"
KEPT = ("sweep.json", "tables/*.parquet", "study/*.json", "study/tables/*", "trials/*/interventions/*.parquet")


def store(run: Path, report: Path) -> None:
    """Copy the record and the tables of a run into `report`/run, in the place of what was there.

    Where the run and the home folder lay on the machine is left out: they become runs/NAME and ~.
    """
    target = report / STORED
    places = {str(run.resolve()): f"runs/{run.resolve().name}", str(Path.home()): "~"}
    shutil.rmtree(target, ignore_errors=True)
    for pattern in KEPT:
        for file in sorted(run.glob(pattern)):
            copy = target / file.relative_to(run)
            copy.parent.mkdir(parents=True, exist_ok=True)
            _copy(file, copy, places)


def _copy(file: Path, copy: Path, places: Mapping[str, str]) -> None:
    """Copy a file of text or a Parquet table, with other names for some folders."""

    def told(text: str) -> str:
        for place, name in places.items():
            text = text.replace(place, name)
        return text

    if file.suffix != ".parquet":
        copy.write_text(told(file.read_text(encoding="utf-8")), encoding="utf-8")
        return
    table = pq.read_table(file)
    for index, column in enumerate(table.schema):
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            values = [None if value is None else told(value) for value in table[column.name].to_pylist()]
            table = table.set_column(index, column, pa.array(values, column.type))
    pq.write_table(table, copy, compression="zstd")


def stored() -> list[Path]:
    """The folders below reports/ that hold a stored run."""
    return [path.parent.parent for path in sorted(REPORTS.glob(f"**/{STORED}/sweep.json"))]


def main() -> None:
    """Store what the command line names, and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", type=Path, help="run folder of `spectra sweep`")
    parser.add_argument("report", nargs="?", type=Path, help="folder below reports/ to keep it in")
    given = parser.parse_args()
    if given.run is not None:
        if given.report is None:
            parser.error("name the folder below reports/, too")
        store(given.run, given.report)
    for folder in [given.report] if given.report is not None else stored():
        print(report_on([folder / STORED], folder / "report.html", force=True))
        if (folder / STORED / "study" / "verdicts.json").is_file():
            print(write_study_report(folder / STORED))


if __name__ == "__main__":
    main()
