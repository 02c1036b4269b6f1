"""`spectra mitigate`: what it prints, and what it refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import spectra
from spectra.cli.main import main
from tests.scanning.checkpoints import Checkpoints, save


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))


def spectra_mitigate(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["mitigate", *map(str, arguments)])


def test_json_holds_the_counts_of_the_scans_before_and_after(saved: Checkpoints, tmp_path: Path) -> None:
    result = spectra_mitigate(
        saved.adapters[1], "--lambda", 0, "--select", "all", "-k", 4, "-o", tmp_path / "o", "--json"
    )
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["count_before"] == spectra.intruders(saved.adapters[1], k=4).count == told["directions"]
    assert told["count_after"] == spectra.intruders(tmp_path / "o", k=4).count < told["count_before"]


def test_the_table_fits_eighty_columns_and_ends_in_the_counts(saved: Checkpoints, tmp_path: Path) -> None:
    result = spectra_mitigate(saved.adapters[1], "-k", 4, "--rank", "same", "-o", tmp_path / "o", "--layers", 1)
    assert result.exit_code == 0, result.stderr
    *table, done, counts, lost = result.stdout.splitlines()
    assert len(table) == 1 + 7
    assert max(map(len, table)) <= 80
    assert "3 -> 3" in table[1]
    assert done.startswith("7 directions of 7 matrices scaled by lambda = 0.7")
    assert counts.startswith("21 intruder dimensions before, ")
    assert lost.startswith("Truncation lost up to ")


def test_an_adapter_without_intruders_is_said_to_be_equal(saved: Checkpoints, tmp_path: Path) -> None:
    result = spectra_mitigate(saved.adapters[0], "-k", 4, "-o", tmp_path / "o")
    assert result.stdout.startswith("No intruder dimension in 14 matrices: ")


def test_the_shrink_is_named_as_one(saved: Checkpoints, tmp_path: Path) -> None:
    result = spectra_mitigate(saved.adapters[1], "-k", 4, "--shrink", "-o", tmp_path / "o")
    assert "14 updates shrunk to the norm that scaling 14 directions by lambda = 0.7 leaves" in result.stdout


def test_an_existing_folder_is_one_line_on_stderr_with_exit_code_one(saved: Checkpoints, tmp_path: Path) -> None:
    result = spectra_mitigate(saved.adapters[1], "-q", "-o", tmp_path)
    assert result.exit_code == 1
    assert result.stderr == f"Error: '{tmp_path}' exists. Add --force to replace it, or choose another folder.\n"


@pytest.mark.parametrize(
    "options", [("--lambda", "2.5"), ("--rank", "none"), ("--rank", "0"), ("--select", "some"), ("--share", "0"), ()]
)
def test_a_malformed_option_is_a_usage_error(saved: Checkpoints, options: tuple[str, ...], tmp_path: Path) -> None:
    out = ("-o", tmp_path / "o") if options else ()
    assert spectra_mitigate(saved.adapters[1], *out, *options).exit_code == 2
