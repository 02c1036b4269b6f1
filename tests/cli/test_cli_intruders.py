import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import spectra
from spectra.cli.main import COMMANDS, main
from spectra.cli.option_types import MemorySize
from tests.scanning.checkpoints import Checkpoints, save


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return save(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def spectra_intruders(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["intruders", *map(str, arguments)])


def test_json_is_the_scan_and_nothing_else_is_on_stdout(saved: Checkpoints) -> None:
    result = spectra_intruders(saved.adapters[1], "-k", 4, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["count"] == spectra.intruders(saved.adapters[1], k=4).count


def test_several_checkpoints_give_an_array(saved: Checkpoints) -> None:
    result = spectra_intruders(*saved.adapters, "-k", 4, "--json")
    assert [scan["checkpoint"] for scan in json.loads(result.stdout)] == [str(path) for path in saved.adapters]


def test_csv_has_one_row_per_vector(saved: Checkpoints) -> None:
    result = spectra_intruders(saved.adapters[1], "-k", 4, "--csv")
    assert len(result.stdout.splitlines()) == 1 + 14 * 4


def test_the_table_fits_eighty_columns_and_ends_in_a_sentence(saved: Checkpoints) -> None:
    result = spectra_intruders(saved.adapters[1], "-k", 4)
    lines = result.stdout.splitlines()
    assert max(len(line) for line in lines[1:-1]) <= 80
    count = spectra.intruders(saved.adapters[1], k=4).count
    assert lines[-1].startswith(f"{count} intruder dimensions among 56 leading vectors of 14 matrices")


def test_a_report_is_written_and_never_overwritten_silently(saved: Checkpoints, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert spectra_intruders(saved.adapters[1], "-k", 4, "--html", out).exit_code == 0
    assert "<html" in out.read_text()
    again = spectra_intruders(saved.adapters[1], "-k", 4, "--html", out)
    assert again.exit_code == 1
    assert "Add --force" in again.stderr
    assert spectra_intruders(saved.adapters[1], "-k", 4, "--html", out, "--force").exit_code == 0


def test_a_missing_checkpoint_is_one_line_on_stderr_with_exit_code_one(saved: Checkpoints) -> None:
    result = spectra_intruders("no-such-adapter", "--base", saved.base, "--json")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert "Traceback" not in result.stderr


def test_selection_narrows_what_is_compared(saved: Checkpoints) -> None:
    result = spectra_intruders(saved.adapters[1], "-k", 4, "--roles", "q_proj", "--layers", "1", "--json")
    assert [matrix["role"] for matrix in json.loads(result.stdout)["matrices"]] == ["q_proj"]


def test_no_cache_leaves_no_file(saved: Checkpoints, cache: Path) -> None:
    spectra_intruders(saved.adapters[1], "-k", 4, "--no-cache")
    assert not cache.exists()


@pytest.mark.parametrize(("text", "size"), [("4GiB", 4 << 30), ("500MB", 500_000_000), ("1.5k", 1500), ("7", 7)])
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert MemorySize().convert(text, None, None) == size


@pytest.mark.parametrize("option", [("--memory", "lots"), ("--epsilons", "0.1;0.2"), ("--epsilon", "2"), ("-k", "0")])
def test_a_malformed_option_is_a_usage_error(saved: Checkpoints, option: tuple[str, str]) -> None:
    assert spectra_intruders(saved.adapters[0], *option).exit_code == 2


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_that_ends_in_an_example(name: str) -> None:
    result = CliRunner().invoke(main, [name, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.stdout


def test_a_scan_imports_nothing_heavy_beside_torch(saved: Checkpoints) -> None:
    heavy = ("scipy", "pandas", "transformers", "peft", "accelerate", "datasets", "matplotlib", "altair", "jinja2")
    code = (
        f"import sys; sys.argv = ['spectra', 'intruders', {str(saved.adapters[1])!r}, '-k', '4', '--json']\n"
        "from spectra.cli.main import main\n"
        f"try: main()\nexcept SystemExit: print([m for m in {heavy} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["matrices"]
    assert done.stderr.splitlines()[-1] == "[]"


def test_help_imports_neither_torch_nor_pandas() -> None:
    code = (
        "import sys; from spectra.cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print([m for m in ('torch', 'pandas', 'transformers', 'numpy') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip().endswith("[]")


def test_a_count_is_held_against_its_control_only_when_a_condition_asks(saved: Checkpoints) -> None:
    result = spectra_intruders(saved.adapters[1], "-k", 4, "--fail-if", "intruders > control", "--fail-if", "norm > 9")
    assert result.exit_code in (0, 3), result.output
    assert ("intruders > control" in result.stderr) == (result.exit_code == 3)
    failed = spectra_intruders(saved.adapters[1], "-k", 4, "--fail-if", "intruders >= 0")
    assert failed.exit_code == 3 and "Failed: intruders >= 0" in failed.stderr
    assert spectra_intruders(saved.adapters[1], "-k", 4, "--fail-if", "score > 0").exit_code == 1
    assert spectra_intruders(saved.adapters[1], "--junit", "x.xml").exit_code == 2
