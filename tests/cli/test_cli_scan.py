import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from spectra.cli.main import main
from spectra.records import read_scan
from spectra.records.totals import totals
from tests.scanning.checkpoints import Checkpoints, save


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))


def spectra_scan(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["scan", *map(str, arguments)])


def test_the_table_shows_every_metric_beside_its_controls_in_eighty_columns(saved: Checkpoints) -> None:
    result = spectra_scan(saved.adapters[1], "-k", 4, "--layers", 0)
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert max(len(line) for line in lines[:-1]) <= 80
    assert "rounding" in result.stdout and "noise" in result.stdout and "random r" in result.stdout
    for metric in ("intruders.count (sum)", "update.effective_rank", "alignment.amplification", "base.edge"):
        assert metric in result.stdout
    assert "7 matrices, left vectors, k = 4" in result.stdout


def test_json_is_the_record_and_can_be_read_again(saved: Checkpoints, tmp_path: Path) -> None:
    result = spectra_scan(saved.adapters[1], "-k", 4, "--metrics", "intruders,ranks", "--layers", 0, "--json")
    (tmp_path / "scan.json").write_text(result.stdout)
    scan = read_scan(tmp_path / "scan.json")
    assert scan.groups == ("intruders", "update")
    assert scan.total("intruders.count") == sum(m.value("intruders.count") or 0 for m in scan.matrices)
    assert json.loads(result.stdout)["matrices"][0]["rank"] == 3


def test_a_folder_receives_the_record_and_its_tables_and_is_not_written_over(
    saved: Checkpoints, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    arguments = (saved.adapters[1], "-k", 4, "--roles", "q_proj", "-o", out)
    assert spectra_scan(*arguments).exit_code == 0
    scan = read_scan(out / "scan.json")
    measures = pd.read_parquet(out / "measures.parquet")
    assert len(measures) == sum(len(matrix.measures) for matrix in scan.matrices)
    assert {"null_storage_rounding", "null_dense_gaussian", "null_random_low_rank"} <= set(measures.columns)
    assert set(pd.read_parquet(out / "nulls.parquet")["draws"]) == {0, 1}
    assert len(pd.read_parquet(out / "vectors.parquet")) == 2 * 4
    counts = pd.read_parquet(out / "epsilons.parquet")
    assert counts[counts["epsilon"] == 0.5]["count"].sum() == scan.total("intruders.count")
    assert set(pd.read_parquet(out / "grids.parquet")["grid"]) == {"phi", "similarity"}
    again = spectra_scan(*arguments)
    assert again.exit_code == 1
    assert "Add --force" in again.stderr


def test_csv_has_one_row_per_matrix_and_metric(saved: Checkpoints) -> None:
    result = spectra_scan(saved.adapters[1], "-k", 4, "--metrics", "ranks", "--roles", "q_proj", "--csv")
    assert len(result.stdout.splitlines()) == 1 + 2 * 10


def test_an_unknown_group_is_one_line_on_stderr(saved: Checkpoints) -> None:
    result = spectra_scan(saved.adapters[1], "--metrics", "curvature")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: There is no group of metrics curvature.")


def test_texts_that_are_missing_are_named_before_the_scan(saved: Checkpoints) -> None:
    result = spectra_scan(saved.adapters[1], "--texts", "nowhere.jsonl")
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr == "Error: File 'nowhere.jsonl' of task 'nowhere' does not exist. Check its path.\n"


def test_a_page_is_written_beside_the_tables_and_from_their_folder(saved: Checkpoints, tmp_path: Path) -> None:
    page, folder = tmp_path / "scan.html", tmp_path / "scan"
    options = ("-k", 4, "--metrics", "intruders,update,nulls", "--html", page, "-o", folder, "-q")
    result = spectra_scan(saved.adapters[1], *options)
    assert result.exit_code == 0, result.output
    assert "where an update of equal norm and rank without training has" in page.read_text(encoding="utf-8")
    assert CliRunner().invoke(main, ["report", str(folder)]).stdout == f"{folder / 'report.html'}\n"
    # One number for the relative norm: that of the whole checkpoint.
    scan = read_scan(folder / "scan.json")
    assert scan.total("update.relative") == pytest.approx(totals(scan.matrices)["update_relative"])
    # The folder is still one that spectra wrote.
    assert spectra_scan(saved.adapters[1], *options, "--force").exit_code == 0
    assert spectra_scan(saved.adapters[1], "--metrics", "update", "--html", page, "--force").exit_code == 2
