"""The import table: the only place that says which room may enter which. Imports go down only."""

import ast
from pathlib import Path

import pytest

import spectra

PACKAGE = Path(spectra.__file__).parent

# Floors from the ground up. A room may import any room on a lower floor.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors",),
    ("records", "provenance", "linalg", "counts", "pairs"),
    ("metrics", "weights", "runs", "assets", "measures"),
    ("analysis", "models", "data", "environment"),
    ("training", "forgetting", "cluster"),
    ("sweep", "report", "figures", "interventions"),
    ("advice",),
    ("cli",),
)

# Heavy or opinionated packages, and the rooms that may import them.
GUARDED: dict[str, set[str]] = {
    "transformers": {"models", "training", "forgetting", "weights"},
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
    "pydantic": {"sweep"},
}

# Rooms that must stay usable without torch.
TORCH_FREE = {
    *("errors", "records", "provenance", "counts", "pairs", "runs", "assets", "measures"),
    *("data", "report", "figures", "cli"),
}

FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def room_of(path: Path) -> str:
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
def test_every_room_stands_on_a_floor(path: Path) -> None:
    assert room_of(path) in FLOOR_OF, f"{room_of(path)} is missing from the import table"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_go_down_only(path: Path) -> None:
    room = room_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "spectra" or len(parts) < 2 or parts[1] not in FLOOR_OF or parts[1] == room:
            continue
        assert FLOOR_OF[parts[1]] < FLOOR_OF[room], f"{room} imports {parts[1]}, which is not on a lower floor"


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_guarded_packages_are_imported_only_in_their_rooms(path: Path) -> None:
    room = room_of(path)
    for name in imports_of(path):
        package = name.split(".")[0]
        if package in GUARDED:
            assert room in GUARDED[package], f"{room} imports {package}"
        if package == "torch":
            assert room not in TORCH_FREE, f"{room} imports torch"


@pytest.mark.parametrize("room", sorted(FLOOR_OF))
def test_modules_of_a_room_import_each_other_without_cycles(room: str) -> None:
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for path in FILES
        if room_of(path) == room
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
