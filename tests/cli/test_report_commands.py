"""`spectra report` and `spectra figures`: arguments, exit codes, what goes to stdout."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from spectra.cli.main import main
from spectra.runs import SCHEMAS, Run


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    run = Run.create(tmp_path / "run", {"specification": {"name": "tiny"}}, same={})
    trial = {"trial": "1", "label": "LoRA r=1", "method": "lora", "learning_rate": 1e-3, "seed": 0, "chosen": True}
    scanned = {"count": 1, "matrices": 1, "k": 1, "epsilon": 0.5, "status": "done"}
    matrix = {"trial": "1", "name": "m", "role": "query", "layer": 0, "d_out": 8, "d_in": 8, "count": 1}
    vector = {"trial": "1", "name": "m", "index": 0, "lower": 0.3, "upper": 0.3, "is_intruder": True, "side": "left"}
    rows = {"trials": [{**trial, **scanned}], "matrices": [matrix], "vectors": [vector]}
    for name in SCHEMAS:
        run.write_table(name, rows.get(name, []))
    return run.path


def test_report_prints_the_path_of_what_it_wrote(run_folder: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(run_folder)])
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{run_folder / 'report.html'}\n"
    assert "LoRA r=1 has 1 intruder dimension in 1 matrix" in (run_folder / "report.html").read_text()


def test_report_refuses_to_replace_a_foreign_file(run_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    out.write_text("precious")
    result = CliRunner().invoke(main, ["report", str(run_folder), "-o", str(out)])
    assert result.exit_code == 1
    assert result.stderr == f"Error: '{out}' exists. Add --force to replace it, or choose another name.\n"
    assert CliRunner().invoke(main, ["report", str(run_folder), "-o", str(out), "--force"]).exit_code == 1
    assert out.read_text() == "precious"
    out.unlink()
    for more in ([], ["--force"]):
        assert CliRunner().invoke(main, ["report", str(run_folder), "-o", str(out), *more]).exit_code == 0


def test_a_condition_that_holds_ends_with_exit_code_3(run_folder: Path, tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    command = ["report", str(run_folder), "--junit", str(junit), "--fail-if"]
    result = CliRunner().invoke(main, [*command, "intruders > 0"])
    assert result.exit_code == 3
    assert result.stderr == "Failed: intruders > 0 (LoRA r=1, seed 0: intruders = 1)\n"
    assert 'failures="1"' in junit.read_text()
    assert CliRunner().invoke(main, [*command, "intruders > 1", "--force"]).exit_code == 0
    missing = CliRunner().invoke(main, [*command, "intruders > control", "--force"])
    assert missing.exit_code == 1 and "control not measured" in missing.stderr
    assert CliRunner().invoke(main, [*command, "intruder > 1", "--force"]).exit_code == 2


def test_a_model_card_is_printed(run_folder: Path) -> None:
    result = CliRunner().invoke(main, ["report", str(run_folder), "--model-card"])
    assert result.exit_code == 0, result.output
    assert "## What fine-tuning did to the weights" in result.stdout
    assert not (run_folder / "report.html").exists()


def test_report_of_nothing_is_a_usage_error() -> None:
    assert CliRunner().invoke(main, ["report"]).exit_code == 2
    assert CliRunner().invoke(main, ["report", "no-such-folder"]).exit_code == 2


def test_figures_prints_one_path_per_figure(run_folder: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["figures", str(run_folder), "-o", str(tmp_path / "out"), "--format", "svg"])
    assert result.exit_code == 0, result.output
    printed = [Path(line) for line in result.stdout.splitlines()]
    assert sorted(printed) == sorted((tmp_path / "out").iterdir())
    assert {path.name for path in printed} == {"count-epsilon.svg", "layer-map-LoRA-r-1.svg"}


@pytest.mark.parametrize("command", ["report", "figures"])
def test_every_help_ends_in_an_example(command: str) -> None:
    result = CliRunner().invoke(main, [command, "-h"])
    assert result.exit_code == 0
    assert result.stdout.rstrip().splitlines()[-1].strip().startswith(f"Example:  spectra {command} ")
