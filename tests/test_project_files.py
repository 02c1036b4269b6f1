"""The files around the package: linting finds undefined names, and workflows and templates say what pyproject says."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

IMPORTS = "from jaxtyping import Float\nfrom torch import Tensor\n\n\n"
FUNCTION = 'def f(W0: Float[Tensor, "m n"]) -> Float[Tensor, " n"]:\n'

WORKFLOWS = [".github/workflows/ci.yml", ".github/workflows/release.yml"]
TEMPLATES = [".github/ISSUE_TEMPLATE/feature.yml", ".github/ISSUE_TEMPLATE/wrong-result.yml"]


def read(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("returned", "code"), [("W0[0]", 0), ("never_defined[0]", 1)])
def test_ruff_refuses_an_undefined_name_and_nothing_else(returned: str, code: int) -> None:
    ruff = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise"]
    done = subprocess.run(
        [*ruff, "--stdin-filename", "spectra/example.py", "-"],
        input=f"{IMPORTS}{FUNCTION}    return {returned}\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert ("F821" in done.stdout) == bool(code)


def test_mypy_ignores_no_undefined_name() -> None:
    assert "name-defined" not in PROJECT["tool"]["mypy"].get("disable_error_code", [])


def test_python_versions_of_the_workflow_are_the_classifiers() -> None:
    jobs = read(".github/workflows/ci.yml")["jobs"]
    prefix = "Programming Language :: Python :: "
    versions = [line.removeprefix(prefix) for line in PROJECT["project"]["classifiers"] if line.startswith(prefix)]
    assert jobs["tests"]["strategy"]["matrix"]["python"] == versions
    steps = [step for job in jobs.values() for step in job["steps"]]
    single = {str(step["with"]["python-version"]) for step in steps if "python-version" in step.get("with", {})}
    assert single - {"${{ matrix.python }}"} <= set(versions)


def test_coverage_has_a_floor_that_continuous_integration_holds() -> None:
    assert 50 < PROJECT["tool"]["coverage"]["report"]["fail_under"] < 100
    steps = read(".github/workflows/ci.yml")["jobs"]["coverage"]["steps"]
    assert "make coverage" in [step.get("run") for step in steps]
    assert "--cov=spectra" in (ROOT / "Makefile").read_text(encoding="utf-8").split("\ncoverage:")[1].split("\n\n")[0]


@pytest.mark.parametrize("path", WORKFLOWS)
def test_a_workflow_has_steps_and_holds_no_secret(path: str) -> None:
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert all({"uses", "run"} & set(step) for job in workflow["jobs"].values() for step in job["steps"])
    assert "secrets." not in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", TEMPLATES)
def test_an_issue_template_asks_under_unique_names(path: str) -> None:
    template = read(path)
    assert template["name"]
    assert template["description"]
    names = [field["id"] for field in template["body"]]
    assert len(names) == len(set(names)) > 0


def test_hooks_and_updates_are_readable() -> None:
    hooks = read(".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    assert {hook["id"] for hook in hooks[0]["hooks"]} == {"ruff-format", "ruff-check"}
    updated = {update["package-ecosystem"] for update in read(".github/dependabot.yml")["updates"]}
    assert updated == {"github-actions", "pip"}


def test_the_oldest_constraints_are_the_lower_bounds() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    needed = [*PROJECT["project"]["dependencies"], *extras["gguf"], *extras["powerlaw"], *extras["ray"]]
    lines = (ROOT / "constraints-oldest.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(line for line in lines if not line.startswith("#")) == sorted(
        requirement.replace(">=", "==") for requirement in needed
    )
