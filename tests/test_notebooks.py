"""The notebooks open with what they answer, carry small outputs, and run as they stand."""

import re
import runpy
import shutil
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
LARGEST_BYTES = 400_000

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks() -> None:
    assert [path.name[0] for path in NOTEBOOKS] == ["1", "2", "3", "4", "5"]


@each_notebook
def test_the_first_cell_says_question_answer_data_and_run_time(path: Path) -> None:
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith(f"# {path.name[0]}. ")
    for heading in ("**Question.**", "**Answer.**", "**Data.**", "**Run time.**"):
        assert heading in first.source


@each_notebook
def test_outputs_are_those_of_one_run_from_top_to_bottom_and_small(path: Path) -> None:
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"] == []
    assert path.stat().st_size < LARGEST_BYTES
    assert re.findall(r"(?:/home|/root|/tmp|/work|/Users|[A-Z]:\\\\)[^\"\\]*", path.read_text()) == []


@each_notebook
def test_every_name_of_spectra_is_imported_in_the_first_code_cell(path: Path) -> None:
    first, *others = code_cells(path)
    assert "spectra" in first.source
    assert [cell.source for cell in others if re.search(r"^\s*(import|from) ", cell.source, re.MULTILINE)] == []


@pytest.mark.slow
@each_notebook
def test_a_notebook_runs_without_a_run_folder(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPECTRA_RUN", raising=False)
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "notebooks"
    shutil.copytree(path.parent, folder)
    executed = folder / path.name
    runpy.run_path(str(ROOT / "scripts" / "run_notebooks.py"))["execute"](executed)
    before, after = code_cells(path), code_cells(executed)
    assert [cell.source for cell in after] == [cell.source for cell in before]
    assert [len(cell.outputs) for cell in after] == [len(cell.outputs) for cell in before]
    stale = [output for cell in after for output in cell.outputs if output.get("name") == "stderr"]
    assert stale == []
