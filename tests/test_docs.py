"""The documentation says what the program says: command pages, links, metric names."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
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


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: str(page.relative_to(DOCS)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
