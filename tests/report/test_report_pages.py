"""Pages for everything: folders of scans, baselines, the index of many runs, comparisons of updates, model cards."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from document import Document
from fabricated import SWEEP, scan_of, sweep_tables, with_nulls, write_run

from spectra.errors import RunError
from spectra.records import Scan
from spectra.records.comparison import Comparison, Overlap
from spectra.report import cases, material_of, model_card, report_on, write_comparison_report
from spectra.report.inputs.evidence import LOW_RANK
from spectra.report.tables.differences import differences
from spectra.storage.destinations import require_folder, whole_folder


def scan_folder(path: Path, seed: int = 1, intruders: int = 7) -> Path:
    """What `spectra scan -o` leaves."""
    scan = with_nulls(scan_of(seed, intruders=intruders), LOW_RANK, 0.5)
    with whole_folder(path, "scan") as folder:
        (folder / "scan.json").write_text(json.dumps(Scan.to_dict(scan)))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two runs, a scan, and something that is neither."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "first", sweep_tables(SWEEP[:2], layers=2))
    write_run(folder / "group" / "second <b>", sweep_tables(SWEEP[:3], layers=2))
    scan_folder(folder / "scan")
    (folder / "notes").mkdir()
    return folder


def test_a_folder_of_a_scan_gets_its_report_and_can_still_be_replaced(tmp_path: Path) -> None:
    folder = scan_folder(tmp_path / "scan")
    assert report_on([folder]) == folder / "report.html"
    text = Document(folder / "report.html").text
    assert "7 intruder dimensions among 360 leading vectors of 36 matrices, where an update of equal norm" in text
    assert require_folder(folder, "scan", force=True) == folder


def test_the_index_of_a_folder_of_runs_links_to_the_report_of_each(runs: Path) -> None:
    path = report_on([runs])
    assert path == runs / "index.html" == report_on([runs])
    document = Document(path)
    links = [attributes["href"] for tag, attributes in document.tags if tag == "a" and "report" in attributes["href"]]
    assert links == ["first/report.html", "group/second%20%3Cb%3E/report.html", "scan/report.html"]
    assert all((runs / folder / "report.html").is_file() for folder in ("first", "group/second <b>", "scan"))
    assert [text for text, _ in document.column("runs", "Task score")] == ["0.801", "0.836", "–"]
    assert [text for text, _ in document.column("runs", "Intruder dimensions")][2] == "7 (null control 18)"
    # Without a chart, the index does without the charting library.
    assert path.stat().st_size < 120_000


def test_a_run_that_cannot_be_read_is_told_in_the_index(tmp_path: Path) -> None:
    write_run(tmp_path / "good", sweep_tables(SWEEP[:1], layers=1))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "scan.json").write_text("{")
    document = Document(report_on([tmp_path]))
    assert "bad' cannot be read" in document.text
    assert len(document.tables["runs"]) == 2


def test_a_baseline_is_pinned_and_every_figure_is_a_difference_from_it(tmp_path: Path) -> None:
    first, second = (scan_folder(tmp_path / name, seed, count) for name, seed, count in (("a", 1, 7), ("b", 2, 30)))
    assert list(differences(material_of([first, second]))["count"]) == [23]
    assert list(differences(material_of([first, second], baseline=second))["count"]) == [-23]
    document = Document(report_on([first, second], tmp_path / "both.html", baseline=second))
    assert [text for text, _ in document.column("differences", "Intruder dimensions")] == ["−23"]
    assert "Differences from b" in document.text
    with pytest.raises(RunError, match="is none of the runs and scans"):
        material_of([first, second], baseline=tmp_path / "c")


def test_runs_are_compared_configuration_by_configuration(tmp_path: Path) -> None:
    more = [replace(recipe, counts=tuple(count + 4 for count in recipe.counts)) for recipe in SWEEP[:2]]
    first = write_run(tmp_path / "first", sweep_tables(SWEEP[:2], layers=2))
    second = write_run(tmp_path / "second", sweep_tables(more, layers=2))
    table = differences(material_of([first, second]))
    assert dict(zip(table["label"], table["count"], strict=True)) == {"second: full": 4, "second: LoRA r=1 α=2": 4}
    assert list(table["against"]) == ["first: full", "first: LoRA r=1 α=2"]


def test_scans_of_two_settings_say_so_where_their_names_stand(tmp_path: Path) -> None:
    first, second = scan_of(1), replace(scan_of(2), epsilon=0.4)
    for name, scan in (("a", first), ("b", second)):
        (tmp_path / f"{name}.json").write_text(json.dumps(scan.to_dict()))
    labels = material_of([tmp_path / "a.json", tmp_path / "b.json"]).tables["trials"]["label"]
    assert list(labels) == ["a (k = 10, ε = 0.5)", "b (k = 10, ε = 0.4)"]


def test_the_page_of_compared_checkpoints_has_their_overlap(tmp_path: Path) -> None:
    scans = (scan_of(1, layers=2, name="x/one"), scan_of(2, layers=2, name="x/two"))
    overlaps = tuple(
        Overlap(0, 1, m.name, m.layer, m.role, "left", (8, 8), 0.25 + 0.01 * at, 0.02, 0.04)
        for at, m in enumerate(scans[0].matrices)
    )
    path = write_comparison_report(Comparison(scans, overlaps, 8, 99, 0), tmp_path / "compare.html")
    document = Document(path)
    assert [text for text, _ in document.column("overlaps", "Checkpoints")] == ["one and two"]
    assert [text for text, _ in document.column("overlaps", "Matrices above chance")] == ["12"]
    assert {"overlap-maps", "differences-figure"} <= set(document.data["figures"])


def test_a_model_card_is_yaml_for_the_hub_and_markdown_for_people(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sweep_tables(SWEEP[:3], layers=2, null=12))
    text = model_card(material_of([run]))
    _, front, body = text.split("---\n", 2)
    (model,) = yaml.safe_load(front)["model-index"]
    assert model["name"] == "LoRA r=8 α=16"
    assert [result["dataset"]["name"] for result in model["results"]] == [
        "movie-reviews", "BBC topics, probe", "BBC topics, nearest neighbour",
    ]  # fmt: skip
    assert model["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.836, "name": "accuracy"}]
    assert "| Intruder dimensions | LoRA r=8 α=16: 31 | null control 12 |" in body


def test_what_conditions_see_is_what_the_page_shows(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", sweep_tables(SWEEP[:3], layers=2, null=12))
    found = {case.name: case.facts for case in cases(material_of([run]))}
    assert len(found) == 6
    facts = found["LoRA r=8 α=16, seed 0, BBC topics, probe"]
    assert (facts["intruders"], facts["control"], facts["score"]) == (31, 12, 0.836)
    assert facts["forgetting"] == pytest.approx(0.052) and facts["forgetting.low"] == pytest.approx(0.043)
