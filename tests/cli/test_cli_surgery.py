"""`spectra extract`, `resize`, `merge` and `convert`: what they print, write and refuse."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from spectra.cli.main import main
from tests.scanning.checkpoints import Checkpoints, save


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))


def spectra(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def test_extract_prints_the_table_writes_the_page_and_says_the_bracket(saved: Checkpoints, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = spectra("extract", saved.full, "--base", saved.base, "--rank", 3, "-o", tmp_path / "o", "--html", page)
    assert result.exit_code == 0, result.stderr
    assert max(map(len, result.stdout.splitlines()[:15])) <= 80
    assert "14 matrices at rank 3" in result.stdout
    assert "no factors of these ranks leave out less than" in result.stdout
    text = page.read_text(encoding="utf-8")
    assert 'data-figure="spectrum-cut"' in text and 'data-figure="error-size"' in text
    assert "report of an adapter" in text


def test_json_and_csv_hold_one_entry_per_matrix(saved: Checkpoints, tmp_path: Path) -> None:
    arguments = ("extract", saved.full, "--base", saved.base, "--parameters", "20k", "--no-count", "-q")
    told = json.loads(spectra(*arguments, "-o", tmp_path / "a", "--json").stdout)
    assert told["parameters"] <= 20_000 and len(told["matrices"]) == 14 and told["count_before"] is None
    rows = spectra(*arguments, "-o", tmp_path / "b", "--csv").stdout.splitlines()
    assert len(rows) == 15 and "least_error" in rows[0]


def test_resize_prints_both_ranks(saved: Checkpoints, tmp_path: Path) -> None:
    result = spectra(
        "resize", saved.adapters[1], "--rank", 2, "-o", tmp_path / "o", "-k", 4, "--html", tmp_path / "p.html"
    )
    assert result.exit_code == 0, result.stderr
    assert "3 -> 2" in result.stdout and "intruder dimensions in the original" in result.stdout
    assert (tmp_path / "p.html").exists()


def test_merge_forecasts_without_writing_and_writes_when_asked(saved: Checkpoints, tmp_path: Path) -> None:
    arguments = ("merge", *saved.adapters, "--weights", "1,0.5", "-k", 4, "--no-critical")
    result = spectra(*arguments, "--html", tmp_path / "p.html")
    assert result.exit_code == 0, result.stderr
    assert "intruder dimensions in the merge" in result.stdout and "Written" not in result.stdout
    assert "forecast of a merge" in (tmp_path / "p.html").read_text(encoding="utf-8")
    written = spectra(*arguments, "-o", tmp_path / "o", "--checkpoint", tmp_path / "full", "--json")
    assert written.exit_code == 0, written.stderr
    assert json.loads(written.stdout)["out"] == str(tmp_path / "o")
    assert (tmp_path / "o" / "adapter_model.safetensors").exists() and (tmp_path / "full" / "config.json").exists()


def test_convert_says_what_was_written(saved: Checkpoints, tmp_path: Path) -> None:
    result = spectra("convert", saved.adapters[0], "--to", "mlx", "-o", tmp_path / "o")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"{tmp_path / 'o'}: 14 modules of '{saved.adapters[0]}' (adapter of peft) as mlx.",
        "Every factor holds the numbers that it held.",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("extract", "FULL", "--base", "BASE", "-o", "OUT"),
        ("extract", "FULL", "--base", "BASE", "-o", "OUT", "--rank", "2", "--energy", "0.5"),
        ("extract", "BASE", "--base", "BASE", "-o", "OUT", "--rank", "2"),
        ("resize", "FULL", "-o", "OUT", "--rank", "2"),
        ("merge", "ADAPTER", "--no-critical"),
        ("convert", "FULL", "--to", "mlx", "-o", "OUT"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_leaves_nothing(
    saved: Checkpoints, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    places = {"FULL": saved.full, "BASE": saved.base, "ADAPTER": saved.adapters[0], "OUT": tmp_path / "out"}
    result = spectra(*(places.get(word, word) for word in arguments))
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1 and result.stderr.startswith("Error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["extract", "resize", "convert"])
def test_an_output_that_exists_is_kept(saved: Checkpoints, command: str, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    source = saved.full if command == "extract" else saved.adapters[0]
    more = {"extract": ("--base", saved.base, "--rank", 2), "resize": ("--rank", 2), "convert": ("--to", "mlx")}[
        command
    ]
    result = spectra(command, source, *more, "-o", tmp_path / "out", "--force")
    assert result.exit_code == 1 and "nothing else is replaced" in result.stderr
    assert (tmp_path / "out" / "mine").read_text() == "x"
