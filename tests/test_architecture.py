"""The import table: it says which package may import which. Imports go down only."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import spectra

PACKAGE = Path(spectra.__file__).parent
ROOT = Path(__file__).resolve().parent.parent

# Layers from the bottom up. A package may import any package on a lower layer.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("registry",),
    ("linalg", "records", "statistics", "storage", "assets"),
    ("metrics", "weights", "runs"),
    ("engine", "models", "data", "environment"),
    ("scanning",),
    ("training", "forgetting", "cluster"),
    ("sweep", "report", "figures", "interventions", "pretraining"),
    ("advice", "surgery"),
    ("study",),
    ("facade",),
    ("cli",),
)

# Heavy or opinionated packages, and the packages that may import them.
GUARDED: dict[str, set[str]] = {
    "transformers": {"models", "training", "forgetting", "weights", "pretraining"},
    "peft": {"models", "training", "forgetting", "weights"},
    "accelerate": {"training"},
    "datasets": {"data", "training", "forgetting"},
    "click": {"cli"},
    "rich": {"cli"},
    "jinja2": {"report"},
    "altair": {"report"},
    "vl_convert": {"report"},
    "matplotlib": {"figures"},
    "ray": {"cluster"},
    "pydantic": {"sweep", "study"},
}

# Packages that must stay usable without torch.
TORCH_FREE = {
    *("errors", "registry", "records", "statistics", "storage", "runs", "assets"),
    *("data", "report", "figures", "cli"),
}

LAYER_OF = {package: layer for layer, packages in enumerate(LAYERS) for package in packages}


def package_of(path: Path) -> str:
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    """Absolute names of all modules imported in a file, also inside functions; TYPE_CHECKING blocks count too."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


FILES = sorted(
    path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE or path.stem not in ("__init__", "__main__")
)
IDS = [str(path.relative_to(PACKAGE)) for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_every_package_stands_on_a_layer(path: Path) -> None:
    assert package_of(path) in LAYER_OF, f"{package_of(path)} is missing from the import table"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_go_down_only(path: Path) -> None:
    package = package_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "spectra" or len(parts) < 2 or parts[1] not in LAYER_OF or parts[1] == package:
            continue
        assert LAYER_OF[parts[1]] < LAYER_OF[package], f"{package} imports {parts[1]}, which is not on a lower layer"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_guarded_packages_are_imported_only_in_their_packages(path: Path) -> None:
    package = package_of(path)
    for name in imports_of(path):
        imported = name.split(".")[0]
        if imported in GUARDED:
            assert package in GUARDED[imported], f"{package} imports {imported}"
        if imported == "torch":
            assert package not in TORCH_FREE, f"{package} imports torch"


@pytest.mark.parametrize("package", sorted(LAYER_OF))
def test_modules_of_a_package_import_each_other_without_cycles(package: str) -> None:
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for path in FILES
        if package_of(path) == package
    }
    edges = {
        module: {
            name for imported in imports_of(path) for name in (imported, imported.rpartition(".")[0]) if name in modules
        }
        - {module}
        for module, path in modules.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"cycle: {' -> '.join((*trail, module))}"
        if module not in done:
            for target in edges[module]:
                visit(target, (*trail, module))
            done.add(module)

    for module in modules:
        visit(module, ())


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_written_layers_are_those_of_the_import_table(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ((?:`\w+`[, ]*)+)\|", text, flags=re.MULTILINE)
    assert len(rows) == len(LAYERS)
    assert {int(layer): tuple(re.findall(r"\w+", packages)) for layer, packages in rows} == dict(enumerate(LAYERS))


def first_with_torch(modules: list[str]) -> str | None:
    """The first of these modules whose import, in a process of its own, has loaded torch."""
    program = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules:\n"
        "        sys.exit(f'torch: {name}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(modules)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if done.returncode == 0:
        return None
    assert done.stderr.startswith("torch: "), done.stderr
    return done.stderr.removeprefix("torch: ").strip()


def test_importing_the_torch_free_packages_loads_no_torch() -> None:
    modules = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in FILES
        if package_of(path) in TORCH_FREE
    ]
    assert {name.split(".")[1] for name in modules} == TORCH_FREE
    assert first_with_torch(["spectra", *modules]) is None


def test_an_import_of_torch_is_found() -> None:
    assert first_with_torch(["spectra.errors", "spectra.linalg.svd", "spectra.runs"]) not in (None, "spectra.errors")
