"""What the distribution is called, what it brings, and how it answers where another one took its import name."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import spectra
from spectra.errors import needs

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def beside_another(folder: Path, init: str | None, *, foreign: tuple[str, ...] = ()) -> dict[str, str]:
    """The package, with another `__init__.py` or none, and further files; the environment in which it is found."""
    package = folder / "spectra"
    package.mkdir()
    for path in Path(spectra.__file__).parent.iterdir():
        if path.name != "__init__.py":
            (package / path.name).symlink_to(path)
    if init is not None:
        (package / "__init__.py").write_text(init)
    for name in foreign:
        (package / name).write_text("")
    return {"PYTHONPATH": str(folder), "PATH": "/usr/bin:/bin"}


@pytest.mark.parametrize("init", [None, '__version__ = "0.1.0"\n'], ids=["removed", "overwritten"])
def test_files_taken_by_another_distribution_are_one_sentence(tmp_path: Path, init: str | None) -> None:
    environment = beside_another(tmp_path, init)
    libraries = [path for path in sys.path if Path(path).is_dir() and not Path(path, "spectra").exists()]
    program = f"import sys; sys.path += {libraries!r}; import spectra.cli.main"
    command = [sys.executable, "-S", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert (
        done.stderr.startswith("Error: The files of lora-spectra were overwritten or removed")
        and "\n" not in done.stderr[:-1]
    )


def test_another_distribution_beside_this_one_is_a_warning(tmp_path: Path) -> None:
    ours = Path(spectra.__file__).read_text(encoding="utf-8")
    environment = beside_another(tmp_path, ours, foreign=("grapefruit.py",))
    command = [sys.executable, "-c", "import spectra; print(spectra.__version__)"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.stdout.strip() == spectra.__version__
    assert "pip uninstall spectra" in done.stderr


def test_the_distribution_and_its_version_have_one_home() -> None:
    assert PROJECT["name"] == spectra.DISTRIBUTION
    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT


def test_every_extra_that_a_sentence_names_exists() -> None:
    named = set()
    for path in (ROOT / "spectra").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "needs":
                named.add(ast.literal_eval(node.args[2]))
    assert {"gguf", "lm-eval", "powerlaw", "quant", "ray"} <= named <= set(PROJECT["optional-dependencies"])
    assert needs("It", "ray", "ray").endswith("Run `pip install 'lora-spectra[ray]'`.")
