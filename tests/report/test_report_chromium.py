"""The page in a real browser: drawn, quiet, clickable, legible in every scheme and width, and printable."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from fabricated import SHOWN, hostile_scan_report, scan_of, sweep_tables, write_run
from fabricated_interventions import write_intervention
from fabricated_surgery import merge, reduction
from test_report_course import continual, pairs, trajectory

from spectra.report import report_on, write_comparison, write_report, write_scan_report
from spectra.report.surgery_page import write_surgery_report

Open = Callable[..., Any]
REPORTS = Path(__file__).resolve().parents[2] / "reports"


@pytest.fixture
def opened(chromium: Any) -> Iterator[Open]:
    """Open a page, wait until it is drawn, and unfold it; afterwards, fail if it said or asked for anything."""
    contexts, complaints = [], []

    def open_page(path: Path, *, width: int = 1200, folded: bool = False, **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on(
            "request", lambda request: request.url == path.as_uri() or complaints.append(f"asked for {request.url}")
        )
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-drawn=true]", timeout=60_000)
        if not folded and page.locator("#unfold").count():
            page.locator("#unfold").click()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def charts(page: Any) -> int:
    """Figures that hold a drawing of some size with at least one mark."""
    script = """() => [...document.querySelectorAll('[data-figure]')].filter((place) => {
        const svg = place.querySelector('svg');
        return svg && svg.getBoundingClientRect().width > 100 && svg.querySelector('.mark-group path');
    }).length"""
    return int(page.evaluate(script))


def test_every_figure_of_a_sweep_is_drawn(sweep_report: Path, opened: Open) -> None:
    page = opened(sweep_report)
    assert charts(page) == page.locator("[data-figure]").count() == 16


def test_every_figure_of_a_scan_is_drawn(scan_report: Path, opened: Open) -> None:
    page = opened(scan_report)
    assert charts(page) == page.locator("[data-figure]").count() == 7


def test_a_comparison_of_runs_and_scans_is_drawn(tmp_path: Path, run_folder: Path, opened: Open) -> None:
    scan = tmp_path / "scan.json"
    scan.write_text(json.dumps(scan_of(5, intruders=2).to_dict()))
    page = opened(write_comparison([run_folder, scan], tmp_path / "comparison.html"))
    assert charts(page) == page.locator("[data-figure]").count()
    assert "fabricated: LoRA r=8 α=16 has 31 intruder dimensions" in page.inner_text("#findings")


def test_a_sweep_with_hundreds_of_log_entries_and_two_seeds_is_drawn(tmp_path: Path, opened: Open) -> None:
    page = opened(write_report(write_run(tmp_path / "run", sweep_tables(seeds=(0, 1)))))
    assert charts(page) == page.locator("[data-figure]").count()


def test_what_a_sweep_records_beside_its_trials_is_drawn_also_on_a_narrow_screen(tmp_path: Path, opened: Open) -> None:
    rows = sweep_tables()
    rows |= {"trajectory": trajectory(rows["trials"]), "pairs": pairs(rows)}
    rows["continual"] = continual(rows["trials"])
    folder = write_run(tmp_path / "run", rows)
    write_intervention(folder / "interventions" / "one", trial="trial-210")
    page = opened(write_report(folder), width=400)
    assert charts(page) == page.locator("[data-figure]").count() == 16 + 3 + 2 + 2 + 2
    assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_a_click_on_the_map_opens_the_matrix(scan_report: Path, opened: Open) -> None:
    page = opened(scan_report)
    before = page.input_value("#opened")
    cells = page.locator("#layer-map svg .mark-rect.role-mark path")
    assert cells.count() == 36
    cells.nth(7).click()
    after = page.input_value("#opened")
    assert after != before
    assert page.locator("#matrices tr.opened").inner_text().startswith(after)
    facts = page.inner_text("#matrix-facts")
    matrix = next(matrix for matrix in scan_of(3, intruders=9, bounds=True).matrices if matrix.name == after)
    assert f"Layer\n{matrix.layer}" in facts
    assert f"Intruder dimensions\n{matrix.count}" in facts
    # Ten vectors, one mark each, all of this matrix.
    assert page.locator("#vector-bounds svg .mark-symbol.role-mark path").count() == 10


def test_the_keyboard_opens_a_matrix_from_the_table(scan_report: Path, opened: Open) -> None:
    page = opened(scan_report)
    page.locator("#matrices tbody th button").nth(20).focus()
    page.keyboard.press("Enter")
    assert page.input_value("#opened") == page.locator("#matrices tbody th").nth(20).inner_text()


def test_the_map_can_be_coloured_by_another_measure(scan_report: Path, opened: Open) -> None:
    page = opened(scan_report)
    colours = (
        "() => [...document.querySelectorAll('#layer-map .mark-rect.role-mark path')].map(p => p.getAttribute('fill'))"
    )
    by_count = page.evaluate(colours)
    page.get_by_label("Relative norm").check()
    by_norm = page.evaluate(colours)
    assert len(set(by_norm)) > len(set(by_count))
    assert "transparent" in by_count
    assert "transparent" not in by_norm


def test_hovering_shows_the_values(scan_report: Path, opened: Open) -> None:
    page = opened(scan_report)
    assert page.locator("#tip").is_hidden()
    page.locator("#layer-map svg .mark-rect.role-mark path").nth(3).hover()
    tip = page.locator("#tip").inner_text()
    assert "encoder.layer." in tip
    assert "Energy share" in tip


def test_the_table_filters(scan_report: Path, opened: Open) -> None:
    page = opened(scan_report)
    visible = page.locator("#matrices tbody tr:visible")
    assert visible.count() == 36
    page.get_by_label("Name contains").fill("layer.2.")
    assert visible.count() == 6
    page.get_by_label("Name contains").fill("")
    page.get_by_label("with intruders only").check()
    with_intruders = sum(matrix.count > 0 for matrix in scan_of(3, intruders=9, bounds=True).matrices)
    assert visible.count() == with_intruders
    page.locator("#filter").get_by_label("Role").select_option("output.dense")
    assert visible.count() < with_intruders
    assert page.locator("#filter output").inner_text() == f"{visible.count()} of 36 shown"


def test_the_table_sorts_by_value_and_says_so(scan_report: Path, opened: Open) -> None:
    page = opened(scan_report)
    header = page.locator("#matrices thead th", has_text="Effective rank")
    values = """() => { const at = [...document.querySelectorAll('#matrices thead th')]
        .findIndex((th) => th.textContent === 'Effective rank');
        return [...document.querySelectorAll('#matrices tbody tr')].map((tr) => +tr.cells[at].dataset.value); }"""
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert page.evaluate(values) == sorted(page.evaluate(values), reverse=True)
    header.get_by_role("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert page.evaluate(values) == sorted(page.evaluate(values))


def download(page: Any, button: Any) -> str:
    with page.expect_download() as waiting:
        button.click()
    return Path(waiting.value.path()).read_text(encoding="utf-8")


def test_tables_and_figures_can_be_downloaded(scan_report: Path, opened: Open) -> None:
    page = opened(scan_report, accept_downloads=True)
    matrices = scan_of(3, intruders=9, bounds=True).to_dataframe()
    rows = list(csv.DictReader(io.StringIO(download(page, page.locator("[data-csv=matrices]")))))
    assert [row["Matrix"] for row in rows] == list(matrices["name"])
    assert [float(row["‖ΔW‖"]) for row in rows] == list(matrices["update_frobenius"])
    whole = json.loads(download(page, page.locator("#download-json")))
    assert [matrix["count"] for matrix in whole] == list(matrices["count"])
    assert [len(matrix["vectors"]) for matrix in whole] == [10] * 36
    page.locator("#layer-map details.data summary").click()
    figure = list(csv.DictReader(io.StringIO(download(page, page.locator("[data-csv-figure=layer-map]")))))
    assert [int(row["count"]) for row in figure] == list(matrices["count"])
    assert download(page, page.locator("[data-svg=layer-map]")).startswith("<svg")


def test_the_data_behind_a_figure_is_shown_as_a_table(sweep_report: Path, run_folder: Path, opened: Open) -> None:
    page = opened(sweep_report)
    page.locator("#count-per-trial summary").click()
    table = page.locator("#count-per-trial details table")
    table.locator("thead th").first.wait_for()
    assert table.locator("thead th").all_inner_texts()[:2] == ["Configuration", "Learning rate"]
    assert [row.split("\t")[3] for row in table.locator("tbody tr").all_inner_texts()] == ["0", "3", "31", "6", "12"]


@pytest.mark.parametrize(("scheme", "switched"), [("light", "dark"), ("dark", "light")])
def test_both_colour_schemes_work_and_can_be_switched(
    scan_report: Path, opened: Open, scheme: str, switched: str
) -> None:
    page = opened(scan_report, color_scheme=scheme)
    ground = {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 24, 29)"}
    colour = "() => getComputedStyle(document.body).backgroundColor"
    label = "() => getComputedStyle(document.querySelector('#layer-map svg .role-axis-label text')).fill"
    assert page.evaluate(colour) == ground[scheme]
    ink = page.evaluate(label)
    page.locator("#theme").click()
    assert page.evaluate(colour) == ground[switched]
    # The charts are drawn in the page's own ink.
    assert page.evaluate(label) != ink


@pytest.mark.parametrize("name", ["sweep_report", "scan_report"])
def test_a_narrow_screen_needs_no_sideways_scrolling(name: str, request: pytest.FixtureRequest, opened: Open) -> None:
    page = opened(request.getfixturevalue(name), width=400)
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    wide = """() => [...document.querySelectorAll('main svg, figure, fieldset, dl, p')]
        .filter((element) => element.getBoundingClientRect().right > 400).map((element) => element.outerHTML)"""
    assert page.evaluate(wide) == []
    assert charts(page) == page.locator("[data-figure]").count()


def test_hostile_names_are_shown_as_text(tmp_path: Path, opened: Open) -> None:
    page = opened(hostile_scan_report(tmp_path / "hostile.html"), width=400)
    assert SHOWN in page.inner_text("h1")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.locator("#layer-map svg .mark-rect.role-mark path").first.hover()
    assert "<script>" in page.locator("#tip").inner_text()
    page.locator("#matrices tbody th button").first.click()
    assert page.locator("main script").count() == 0


def test_the_report_prints_in_black_on_white(scan_report: Path, opened: Open) -> None:
    page = opened(scan_report, color_scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#unfold").is_hidden()
    paper = page.pdf(format="A4")
    assert paper.startswith(b"%PDF")
    assert len(paper) > 20_000


def test_a_table_longer_than_a_page_has_its_header_on_every_page(tmp_path: Path, opened: Open) -> None:
    page = opened(write_report(write_run(tmp_path / "run", sweep_tables(seeds=(0, 1, 2)))))
    header = page.locator("#trials thead th").first
    assert header.locator("button").count() == 1
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    # A header that holds a button is printed on the table's first page only.
    assert page.locator("thead button").count() == 0
    assert header.inner_text() == "Configuration"
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert header.locator("button").count() == 1


def test_a_reader_can_reach_everything_by_landmarks_and_the_skip_link(sweep_report: Path, opened: Open) -> None:
    page = opened(sweep_report, folded=True)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the findings"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#findings"
    assert page.get_by_role("main").count() == page.get_by_role("banner").count() == 1
    levels = page.locator("h1, h2, h3").evaluate_all("all => all.map((heading) => Number(heading.tagName[1]))")
    assert levels[0] == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_without_scripts_the_findings_and_tables_remain(scan_report: Path, chromium: Any) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(scan_report.as_uri())
    assert "9 intruder dimensions among 360 leading vectors" in page.inner_text("#findings")
    assert page.locator("#matrices tbody tr").count() == 36
    assert "need JavaScript" in page.inner_text("main")
    context.close()


# What a look at a picture would find: anything beyond its frame, and labels of one axis or legend on one another.
FAULTS = """() => {
    const faults = [];
    const right = document.documentElement.clientWidth + 1;
    if (document.documentElement.scrollWidth > right) faults.push("the page scrolls sideways");
    for (const box of document.querySelectorAll(".tiles li, .findings, figure, .subject div, .caption, fieldset")) {
        const frame = box.getBoundingClientRect();
        if (frame.right > right) faults.push(`beyond the page: ${box.className || box.id}`);
        if (box.scrollWidth > box.clientWidth + 1) faults.push(`clipped: ${box.className} ${box.id}`);
    }
    const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1
        || a.bottom <= b.top + 2 || b.bottom <= a.top + 2;
    const tiles = [...document.querySelectorAll(".tiles li")].map((tile) => tile.getBoundingClientRect());
    tiles.forEach((tile, at) => tiles.slice(at + 1).forEach((other) => apart(tile, other)
        || faults.push("tiles overlap")));
    for (const place of document.querySelectorAll("[data-figure]")) {
        const svg = place.querySelector("svg");
        const name = place.dataset.figure;
        if (!svg || svg.getBoundingClientRect().width < 100) { faults.push(`not drawn: ${name}`); continue; }
        if (!svg.querySelector(".mark-group path")) faults.push(`empty: ${name}`);
        const label = place.querySelector("[aria-label]");
        if (label && label.getAttribute("aria-label") === "Vega visualization") faults.push(`no label: ${name}`);
        const frame = svg.getBoundingClientRect();
        for (const text of svg.querySelectorAll("text")) {
            const box = text.getBoundingClientRect();
            if (box.width && getComputedStyle(text).opacity > 0 && (box.left < frame.left - 2
                || box.right > frame.right + 2 || box.top < frame.top - 2 || box.bottom > frame.bottom + 2)) {
                faults.push(`clipped in ${name}: ${text.textContent}`);
            }
        }
        for (const group of svg.querySelectorAll(".role-axis-label, .role-legend-entry, .role-header")) {
            const texts = [...group.querySelectorAll("text")].filter((text) => text.textContent.trim()
                && getComputedStyle(text).opacity > 0);
            const boxes = texts.map((text) => text.getBoundingClientRect());
            boxes.forEach((box, at) => {
                boxes.slice(at + 1).forEach((other) => apart(box, other)
                    || faults.push(`overlap in ${name}: ${texts[at].textContent}`));
            });
        }
    }
    return faults;
}"""


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
@pytest.mark.parametrize("name", ["sweep_report", "scan_report", "blank_scan_report"])
def test_nothing_overlaps_is_clipped_or_empty(
    name: str, width: int, scheme: str, request: pytest.FixtureRequest, opened: Open
) -> None:
    page = opened(request.getfixturevalue(name), width=width, color_scheme=scheme)
    assert page.evaluate(FAULTS) == []
    if width == 1400:
        page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        page.emulate_media(media="print")
        assert page.evaluate(FAULTS) == []
        cut = """() => [...document.querySelectorAll('.scroll')].filter((box) => box.scrollHeight > box.clientHeight + 1
            || box.scrollWidth > box.clientWidth + 1).map((box) => box.getAttribute('aria-label'))"""
        page.set_viewport_size({"width": 690, "height": 1000})  # A4 without its margins
        assert page.evaluate(cut) == []
        page.set_viewport_size({"width": width, "height": 900})
        narrow = """() => [...document.querySelectorAll('[data-figure] svg')].filter((svg) =>
            svg.getBoundingClientRect().width < 0.9 * document.querySelector('main').clientWidth).length"""
        assert page.evaluate(narrow) == 0


@pytest.mark.parametrize("kind", ["study", "comparison", "intervention", "resize", "merge"])
def test_other_pages_fit_a_narrow_screen(kind: str, run_folder: Path, tmp_path: Path, opened: Open) -> None:
    path = REPORTS / "study" / "run" / "study.html"
    if kind == "comparison":
        path = write_comparison([run_folder, write_run(tmp_path / "other", sweep_tables())], tmp_path / "both.html")
    elif kind == "intervention":
        path = report_on([write_intervention(tmp_path / "run")], tmp_path / "intervention.html")
    elif kind in ("resize", "merge"):
        path = write_surgery_report(reduction() if kind == "resize" else merge(), tmp_path / "surgery.html")
    assert opened(path, width=400, color_scheme="dark").evaluate(FAULTS) == []


def test_the_first_screen_answers_without_scrolling(sweep_report: Path, opened: Open) -> None:
    page = opened(sweep_report, width=1400, folded=True)
    bottom = "(selector) => document.querySelector(selector).getBoundingClientRect().bottom"
    assert page.evaluate(bottom, ".tiles") < 500 and page.evaluate(bottom, ".answer .chart") < 900
    assert page.locator(".findings > p").count() <= 3
    assert page.locator("details.section[open]").count() == 0
    page.evaluate("location.hash = '#section-intruders'")
    page.wait_for_selector("#section-intruders[open]")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details.section:not([open])").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.section[open]").count() == 1


def test_both_sides_stand_side_by_side(tmp_path: Path, opened: Open) -> None:
    from dataclasses import replace

    scan = scan_of(3, layers=2, intruders=3)
    both = tuple(
        replace(matrix, vectors=(*matrix.vectors, *(replace(vector, side="right") for vector in matrix.vectors)))
        for matrix in scan.matrices
    )
    page = opened(write_scan_report(replace(scan, matrices=both, side="both"), tmp_path / "both.html"))
    assert page.locator("#vector-bounds svg .mark-symbol.role-mark path").count() == 20
    assert "3 intruder dimensions among 120 leading vectors" in page.inner_text("#findings")
