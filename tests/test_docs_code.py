"""What stands in the code blocks of the documentation fits the program: commands, options, names, syntax.

What of it also runs, and what never does and why, stands in tests/facade/test_pages.py.
"""

import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

import spectra
from spectra.cli.main import COMMANDS, main

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "reports").rglob("*.md")])
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Every fenced block of a language, with the page it stands on."""
    for page in PAGES:
        for found in FENCE.finditer(page.read_text(encoding="utf-8")):
            if found[1] == language:
                yield str(page.relative_to(ROOT)), found[2]


def calls() -> Iterator[tuple[str, list[str]]]:
    """Every call of `spectra` in a shell block or in indented lines, as words up to a pipe or a comment."""
    texts = [*blocks("bash"), *blocks("sh")]
    for page in PAGES:
        indented = re.findall(r"(?:^    (?! ).*\n)+", page.read_text(encoding="utf-8"), re.MULTILINE)
        texts += [(str(page.relative_to(ROOT)), re.sub("^    ", "", text, flags=re.MULTILINE)) for text in indented]
    for page_name, text in texts:
        for line in text.replace("\\\n", " ").splitlines():
            if not re.match(r"(srun .*? )?spectra ", line):
                continue
            lexer = shlex.shlex(line[line.index("spectra ") :], posix=True, punctuation_chars="|;<>&")
            lexer.whitespace_split = True
            yield page_name, list(itertools.takewhile(lambda word: not re.fullmatch(r"[|;<>&]+", word), lexer))[1:]


@pytest.mark.parametrize(("page", "words"), list(calls()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_documented_call_names_a_command_and_its_options(page: str, words: list[str]) -> None:
    words = [word for word in words if word not in ("...", "…")]
    while words and words[0] == "--plugin":
        words = words[2:]
    if not words or words[0].startswith("-") or words[0] == "COMMAND":
        return
    assert words[0] in COMMANDS, f"{page} calls {words[0]}"
    command = main.get_command(main.make_context("spectra", ["--help"], resilient_parsing=True), words[0])
    known = {"-h", "--help"}
    parts = [command, *getattr(command, "commands", {}).values()]
    for part in parts:
        known |= {name for option in part.params for name in (*option.opts, *option.secondary_opts)}
    unknown = [word for word in words if re.match(r"--?[a-zA-Z]", word) and word.split("=")[0] not in known]
    assert unknown == [], f"{page}: spectra {' '.join(words)}"


@pytest.mark.parametrize(("page", "text"), list(blocks("python")), ids=lambda value: value if "\n" not in value else "")
def test_every_python_block_is_python_and_names_what_exists(page: str, text: str) -> None:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "spectra":
            assert hasattr(spectra, node.attr), f"{page} uses spectra.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "spectra":
            assert all(hasattr(spectra, alias.name) for alias in node.names), f"{page}: {ast.unparse(node)}"
