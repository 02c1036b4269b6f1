"""Every field that a chart draws by is on the page: a mark by a column that is not there loses it without a word."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from document import Document

REPORTS = Path(__file__).resolve().parent.parent.parent / "reports"
PAGES = sorted(path.relative_to(REPORTS).as_posix() for path in REPORTS.rglob("*.html"))


def fields_of_the_table(chart: Any, others: frozenset[str], inherited: bool = True) -> Iterator[str]:
    """Fields of the encodings whose data is the page's table, and not one of the chart's own."""
    if isinstance(chart, list):
        for inner in chart:
            yield from fields_of_the_table(inner, others, inherited)
    elif isinstance(chart, dict):
        if "data" in chart:
            inherited = "values" not in chart["data"] and chart["data"].get("name") not in others
        for key, inner in chart.items():
            if key == "field" and isinstance(inner, str) and inherited:
                yield inner
            elif key not in ("data", "datasets"):
                yield from fields_of_the_table(inner, others, inherited)


def made_by_transforms(chart: Any) -> Iterator[str]:
    """Names that a calculation gives to what it computes from the columns."""
    if isinstance(chart, list):
        for inner in chart:
            yield from made_by_transforms(inner)
    elif isinstance(chart, dict):
        yield from (one["as"] for one in chart.get("transform", ()) if "calculate" in one)
        for key, inner in chart.items():
            if key not in ("data", "datasets"):
                yield from made_by_transforms(inner)


def missing_fields(page: Path) -> set[tuple[str, str]]:
    """(figure, field) for every field without a column."""
    found = set()
    for name, figure in Document(page).data.get("figures", {}).items():
        used = set(fields_of_the_table(figure["spec"], frozenset(figure["spec"].get("datasets", ()))))
        there = {*figure["table"]["columns"], *made_by_transforms(figure["spec"])}
        found |= {(name, field) for field in used - there}
    return found


@pytest.mark.parametrize("name", PAGES)
def test_a_stored_page_holds_every_column_that_it_draws_by(name: str) -> None:
    assert missing_fields(REPORTS / name) == set()


def test_a_sweep_and_a_scan_hold_every_column_that_they_draw_by(
    sweep_report: Path, scan_report: Path, blank_scan_report: Path
) -> None:
    for page in (sweep_report, scan_report, blank_scan_report):
        assert missing_fields(page) == set()


def test_a_column_that_is_left_out_is_found() -> None:
    chart: dict[str, Any] = {
        "datasets": {"own": [{"zero": 0}]},
        "layer": [
            {"data": {"name": "own"}, "encoding": {"x": {"field": "zero"}}},
            {"data": {"name": "table"}, "encoding": {"x": {"field": "value"}, "tooltip": [{"field": "seeds"}]}},
        ],
    }
    assert set(fields_of_the_table(chart, frozenset(chart["datasets"]))) == {"value", "seeds"}
