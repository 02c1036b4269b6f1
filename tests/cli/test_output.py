"""--json, --csv and --parquet of every command that prints a table."""

import io
import json
from pathlib import Path

import click
import pandas as pd
import pytest
from click.testing import CliRunner, Result

from spectra.cli.destinations import WritingCommand
from spectra.cli.main import main
from spectra.cli.output import Output, output_options

ROWS = [
    {"name": "query, key", "count": 3, "shape": [64, 64], "share": 0.1 + 0.2},
    {"name": "µ", "count": None, "shape": [], "share": None},
]


@click.command(cls=WritingCommand)
@output_options("matrix")
def toy(output: Output) -> None:
    """Print two rows."""
    output.emit(text=lambda: click.echo("two rows"), whole=lambda: {"rows": ROWS}, rows=lambda: ROWS)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(toy, [str(argument) for argument in arguments])


def test_people_get_text() -> None:
    assert run().stdout == "two rows\n"


def test_json_is_the_whole_result() -> None:
    assert json.loads(run("--json").stdout) == {"rows": ROWS}
    assert "µ" in run("--json").stdout


def test_csv_has_one_row_each_and_keeps_every_digit() -> None:
    table = pd.read_csv(io.StringIO(run("--csv").stdout))
    assert list(table["name"]) == ["query, key", "µ"]
    assert table["share"][0] == 0.1 + 0.2
    assert [json.loads(shape) for shape in table["shape"]] == [[64, 64], []]


def test_parquet_comes_beside_what_is_printed(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    result = run("--parquet", path)
    assert result.stdout == "two rows\n"
    assert result.stderr == f"Table: {path}\n"
    table = pd.read_parquet(path)
    assert list(table["count"].fillna(-1)) == [3, -1]
    assert table["share"][0] == 0.1 + 0.2


def test_an_existing_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("precious")
    result = run("--parquet", path)
    assert result.exit_code == 1
    assert str(result.exception) == f"'{path}' exists. Add --force to replace it, or choose another name."
    assert "is not a table of spectra" in str(run("--parquet", path, "--force").exception)
    assert path.read_text() == "precious"
    path.unlink()
    for more in ((), ("--force",)):
        assert run("--parquet", path, *more).exit_code == 0
        assert len(pd.read_parquet(path)) == 2


def test_two_forms_at_once_are_refused() -> None:
    result = run("--json", "--csv")
    assert result.exit_code == 2
    assert "--json and --csv are two forms of one output. Choose one." in result.stderr


@pytest.mark.parametrize("name", [["assets", "list"], ["forget"], ["inspect"], ["intruders"], ["mitigate"], ["status"]])
def test_every_command_that_prints_a_table_has_all_forms(name: list[str]) -> None:
    text = CliRunner().invoke(main, [*name, "--help"]).stdout
    assert [option for option in ("--json", "--csv", "--parquet", "--force") if option not in text] == []


def test_the_catalogue_as_csv_is_the_catalogue(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path))
    printed = CliRunner().invoke(main, ["assets", "list", "--csv"]).stdout
    whole = json.loads(CliRunner().invoke(main, ["assets", "list", "--json"]).stdout)
    assert list(pd.read_csv(io.StringIO(printed))["name"]) == [row["name"] for row in whole]


def test_a_table_that_was_cut_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.table import Table

    from spectra.cli.terminal import CUT, console

    table = Table("name", "value")
    table.add_row("a", "of moderate length")
    console(width=60).print(table)
    assert CUT not in capsys.readouterr().out.replace("\n", " ")
    console(width=14).print(table)
    assert CUT in " ".join(capsys.readouterr().out.split())
