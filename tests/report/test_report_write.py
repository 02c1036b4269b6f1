"""From runs and scans to files: what is read, what is refused, what is overwritten."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fabricated import scan_of, sweep_tables, write_run

from spectra.errors import DestinationError, RunError
from spectra.records import read_scan
from spectra.report import report_on, write_comparison
from spectra.report.inputs.sources import compared, read_material, run_material, scan_material
from spectra.report.write import distinct_names


def scan_file(folder: Path, name: str = "scan.json", seed: int = 1) -> Path:
    path = folder / name
    path.write_text(json.dumps(scan_of(seed, bounds=True).to_dict()))
    return path


def test_a_scan_reads_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_scan(scan_file(tmp_path)).to_dict() == scan_of(1, bounds=True).to_dict()


def test_a_scan_from_a_later_version_with_more_keys_is_read(tmp_path: Path) -> None:
    content = scan_of(1).to_dict()
    content["novelty"] = 1
    content["matrices"][0]["novelty"] = {"x": 1}
    content["matrices"][0]["vectors"][0]["novelty"] = 0.5
    content["matrices"][0]["update"]["novelty"] = 0.5
    path = tmp_path / "scan.json"
    path.write_text(json.dumps(content))
    assert read_scan(path).count == 7


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"checkpoint": "x"}'])
def test_another_file_is_refused_with_advice(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(RunError, match=r"other\.json' is no scan of .* Name a run folder or such a file\.$"):
        read_material(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nothing\.json' does not exist\. Name a run folder or"):
        read_material(tmp_path / "nothing.json")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is no run folder"):
        report_on([tmp_path])


def test_the_report_of_a_run_lies_in_its_folder_and_is_replaced_freely(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", sweep_tables())
    assert report_on([folder]) == folder / "report.html"
    assert report_on([folder]) == folder / "report.html"
    assert report_on([folder], folder / "report.html") == folder / "report.html"


def test_another_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    scan, out = scan_file(tmp_path), tmp_path / "out.html"
    out.write_text("precious")
    with pytest.raises(
        DestinationError, match=r"out\.html' exists\. Add --force to replace it, or choose another name\.$"
    ):
        report_on([scan], out)
    with pytest.raises(DestinationError, match="is not an HTML report of spectra"):
        report_on([scan], out, force=True)
    assert out.read_text() == "precious"
    out.unlink()
    assert report_on([scan], out) == report_on([scan], out, force=True) == out
    assert out.read_text().startswith("<!DOCTYPE html>")


def test_a_scan_needs_a_place_for_its_report(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Name the file with -o OUT\.$"):
        report_on([scan_file(tmp_path)])


def test_a_comparison_needs_two(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="needs two runs or scans, not 1"):
        write_comparison([scan_file(tmp_path)], tmp_path / "out.html")


def test_compared_trials_keep_their_numbers_and_tell_where_they_come_from(tmp_path: Path) -> None:
    run = run_material(write_run(tmp_path / "run", sweep_tables()))
    scan = scan_material(scan_of(1))
    both = compared([run, scan], ["run", "scan"])
    trials = both.tables["trials"]
    assert list(trials["count"]) == [*run.tables["trials"]["count"], 7]
    assert trials["label"].iloc[0] == "run: full"
    assert trials["label"].iloc[-1] == "scan"
    assert len(both.tables["vectors"]) == len(run.tables["vectors"]) + len(scan.tables["vectors"])
    # The chosen trials of the run, and the scan, for which there was nothing to choose.
    assert len(both.chosen) == 6


def test_names_are_as_short_as_they_can_be_told_apart() -> None:
    assert distinct_names(["/x/a/run", "/x/b/run"]) == ["a/run", "b/run"]
    assert distinct_names(["/x/first.json", "/x/second.json"]) == ["first", "second"]
    assert distinct_names(["/x/a", "/x/a"]) == ["x/a (1)", "x/a (2)"]


def test_the_whole_norm_of_a_scan_is_that_of_all_matrices_together() -> None:
    scan = scan_of(1)
    row = scan_material(scan).tables["trials"].iloc[0]
    updates = [matrix.update for matrix in scan.matrices if matrix.update]
    base = sum((update.frobenius / update.relative) ** 2 for update in updates) ** 0.5
    assert row["update_frobenius"] == pytest.approx(sum(update.frobenius**2 for update in updates) ** 0.5)
    assert row["update_relative"] == pytest.approx(row["update_frobenius"] / base)


def test_a_report_imports_no_torch() -> None:
    code = "import sys, spectra.report, spectra.figures; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
