"""The page asks for nothing from outside, runs nothing but its own scripts, and shows every name as text."""

import base64
import hashlib
import re
from pathlib import Path

import pytest
from document import Document
from fabricated import HOSTILE, SHOWN, Recipe, hostile_scan_report, sweep_tables, write_run

from spectra.report import write_report
from spectra.report.page import chart_bundle, policy


@pytest.mark.parametrize("name", ["sweep_report", "scan_report"])
def test_the_page_asks_for_nothing_from_outside(name: str, request: pytest.FixtureRequest) -> None:
    document = Document(request.getfixturevalue(name))
    for tag, attributes in document.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base", "img"), tag
        assert not {"src", "srcset", "action", "formaction", "data", "poster", "style"} & set(attributes), (
            tag,
            attributes,
        )
        assert attributes.get("href", "#").startswith("#"), attributes
        assert not any(attribute.startswith("on") for attribute in attributes), (tag, attributes)
    for tag, attributes, text in document.raw:
        if tag == "style":
            assert not re.search(r"url\(|@import", text)
        elif attributes.get("type") != "application/json" and text != chart_bundle():
            assert not re.search(r"https?:|\bimport\b|fetch\(|XMLHttpRequest|innerHTML|eval\(", text)


@pytest.mark.parametrize("name", ["sweep_report", "scan_report"])
def test_the_policy_allows_exactly_the_pages_own_scripts_and_styles(name: str, request: pytest.FixtureRequest) -> None:
    document = Document(request.getfixturevalue(name))
    (written,) = (a["content"] for t, a in document.tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.split(" ", 1) for rule in written.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert "unsafe" not in written

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    scripts = [text for tag, a, text in document.raw if tag == "script" and "type" not in a]
    styles = [text for tag, _, text in document.raw if tag == "style"]
    assert rules["script-src"].split() == [digest(text) for text in scripts]
    assert rules["style-src"].split() == [digest(text) for text in styles]


def test_a_changed_script_changes_the_policy() -> None:
    assert policy(["a"], ["b"]) != policy(["c"], ["b"])


def test_hostile_names_are_text_everywhere(tmp_path: Path) -> None:
    recipes = [
        Recipe(HOSTILE, "lora", 8, (0, 3, 5), (0.01, 0.02, 0.03), 0.8),
        Recipe("full", "full", None, (0, 0, 0), (0.0, 0.01, 0.02), 0.8),
    ]
    rows = sweep_tables(recipes)
    for table in ("forgetting", "trials"):
        for row in rows[table]:
            for key in ("heldout", "metric", "unit", "task", "task_metric"):
                if key in row:
                    row[key] = HOSTILE
    sweep = write_report(write_run(tmp_path / "run", rows, name=HOSTILE))
    for path in (sweep, hostile_scan_report(tmp_path / "scan.html")):
        document = Document(path)
        assert len([tag for tag, _ in document.tags if tag == "script"]) == 3
        assert "b" not in {tag for tag, _ in document.tags}
        assert SHOWN in document.text
        assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in path.read_text(encoding="utf-8")
        assert "<script>alert" not in path.read_text(encoding="utf-8")
