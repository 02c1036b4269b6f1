"""The documentation says what the program says: command pages, links, metric names."""

import ast
import importlib
import inspect
import re
import runpy
from dataclasses import fields
from pathlib import Path

import pytest

import spectra
from spectra.cli.main import COMMANDS
from spectra.forgetting.catalogue import HELD_OUT_MEASURES
from spectra.records.measures import UpdateNorms

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PROSE = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "reports").rglob("*.md")])
PAGES = runpy.run_path(str(ROOT / "scripts" / "write_command_docs.py"))["pages"]()


@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_command_page_is_the_live_help(name: str) -> None:
    written = (DOCS / "commands" / name).read_text(encoding="utf-8")
    assert written == PAGES[name], "Run python scripts/write_command_docs.py"


def test_every_command_page_belongs_to_a_command() -> None:
    assert {path.name for path in (DOCS / "commands").glob("*.md")} == set(PAGES)


@pytest.mark.parametrize("width", ["40", "200"])
def test_command_pages_do_not_depend_on_the_terminal(width: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", width)
    assert runpy.run_path(str(ROOT / "scripts" / "write_command_docs.py"))["pages"]() == PAGES


def test_every_command_is_listed_with_its_summary() -> None:
    listed = (DOCS / "cli.md").read_text(encoding="utf-8")
    missing = [name for name, text in COMMANDS.items() if f"| [`{name}`](commands/{name}.md) | {text} |" not in listed]
    assert missing == []


@pytest.mark.parametrize("page", PROSE, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page} links to {target}"


def test_every_metric_of_the_records_and_every_measure_is_explained() -> None:
    text = (DOCS / "metrics.md").read_text(encoding="utf-8")
    named = [field.name for field in fields(UpdateNorms)]
    measured = [
        *named,
        "count",
        "max_cosine",
        "energy_share",
        "ill_conditioned",
        *[one.name for one in HELD_OUT_MEASURES.own],
    ]
    assert [name for name in measured if f"| `{name}` |" not in text] == []


def said_by_the_program() -> str:
    """Every text of the source, with three dots where values are put in."""
    texts = []
    for path in sorted(Path(spectra.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(one.value) if isinstance(one, ast.Constant) else "..." for one in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return re.sub(r"'\.\.\.'|\.\.\.", "...", "\n".join(texts))


def test_the_messages_of_the_troubleshooting_page_are_those_of_the_program() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = [
        message for row in re.findall(r"^\| (.*?) \|", page, re.MULTILINE) for message in re.findall('"(.+?)"', row)
    ]
    assert len(quoted) > 10
    said = said_by_the_program()
    assert [message for message in quoted if message.removeprefix("... ") not in said] == []


def test_every_row_of_every_table_has_as_many_cells_as_its_heading() -> None:
    for page in DOCS.rglob("*.md"):
        width = 0
        for line in page.read_text(encoding="utf-8").splitlines():
            cells = len(re.split(r"(?<!\\)\|", line.strip())) if line.startswith("|") else 0
            assert not width or not cells or cells == width, f"{page.name}: {line}"
            width = cells


def test_the_reference_holds_every_public_function() -> None:
    named = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    for path in named:
        module, _, name = path.rpartition(".")
        assert getattr(importlib.import_module(module), name) is getattr(spectra, name), path
    functions = {name for name in spectra.__all__ if inspect.isfunction(getattr(spectra, name))}
    assert functions <= {path.rpartition(".")[2] for path in named}


def test_the_site_fetches_nothing_and_searches_with_a_script_of_its_own() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert re.findall(r"https?://", site) == [] and "font: false" in site
    # The plugin `offline` would fetch a script of this name, if none were named.
    (script,) = re.findall(r"- (\S*iframe-worker\S*)", site)
    assert (ROOT / script).is_file()


def test_the_site_leads_to_every_page() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in DOCS.glob("*.md") if f": docs/{page.name}\n" not in site] == []
