"""Texts that every Python brings along: the code and the docstrings of its standard library."""

import ast
import json
import sysconfig
from collections.abc import Iterator
from pathlib import Path

EXCLUDED = {"site-packages", "dist-packages", "test", "tests", "idle_test", "lib2to3", "__pycache__"}
SHORTEST_DOCSTRING = 200  # characters: shorter ones say little more than the name they stand under


def write_standard_library(name: str, folder: Path) -> None:
    """Write "python-docs" or "python-code" as `texts.jsonl`: one object with `file` and `text` per line.

    Files are visited in alphabetical order and only parsed, never imported.
    """
    texts = _docstrings if name == "python-docs" else _code
    with (folder / "texts.jsonl").open("w", encoding="utf-8") as output:
        for file, text in texts():
            output.write(json.dumps({"file": file, "text": text}, ensure_ascii=False) + "\n")


def _code() -> Iterator[tuple[str, str]]:
    library = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(library.rglob("*.py")):
        relative = path.relative_to(library)
        if EXCLUDED.isdisjoint(relative.parts):
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:  # a handful of modules declare another encoding
                continue
            if text.strip():
                yield relative.as_posix(), text


def _docstrings() -> Iterator[tuple[str, str]]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for file, text in _code():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, documented):
                docstring = ast.get_docstring(node)
                if docstring and len(docstring) >= SHORTEST_DOCSTRING:
                    yield file, docstring
