"""The files around the package: linting finds undefined names, and workflows and templates say what pyproject says."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

DEFINED = 'from jaxtyping import Float\nfrom torch import Tensor\n\n\ndef f(W0: Float[Tensor, "m n"]) -> Float[Tensor, " n"]:\n'


@pytest.mark.parametrize(("returned", "code"), [("W0[0]", 0), ("never_defined[0]", 1)])
def test_ruff_refuses_an_undefined_name_and_nothing_else(returned: str, code: int) -> None:
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise"]
    done = subprocess.run(
        [*ruff, "--stdin-filename", "spectra/example.py", "-"],
        input=f"{DEFINED}    return {returned}\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("F821" in done.stdout) == bool(code)


def test_mypy_ignores_no_undefined_name() -> None:
    assert "name-defined" not in PROJECT["tool"]["mypy"].get("disable_error_code", [])
