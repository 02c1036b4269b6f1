"""The page as text: every number is the table's, every figure has words, and the file is no larger than promised."""

from pathlib import Path

import pandas as pd
import pytest
from document import Document
from fabricated import Recipe, pictured, scan_of, sweep_tables, write_run
from test_report_packed import unpacked

from spectra.records.looks import COLOURS, FULL_COLOUR
from spectra.report import write_report, write_scan_report
from spectra.report.inputs.sources import run_material
from spectra.report.tables.statistics import associations

SEVEN = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def sweep(sweep_report: Path) -> Document:
    return Document(sweep_report)


@pytest.fixture(scope="module")
def scan(scan_report: Path) -> Document:
    return Document(scan_report)


def test_every_number_of_the_trials_table_is_the_runs(sweep: Document, run_folder: Path) -> None:
    trials = run_material(run_folder).tables["trials"]
    for heading, column in {
        "Learning rate": "learning_rate",
        "Validation score": "validation_score",
        "Test score": "task_score",
        "Intruder dimensions": "count",
        "Energy share": "energy_share",
        "‖ΔW‖ / ‖W0‖": "update_relative",
        "Effective rank": "effective_rank",
    }.items():
        expected = [None if pd.isna(value) else float(value) for value in trials[column]]
        shown = [None if value is None else float(value) for _, value in sweep.column("trials", heading)]
        assert shown == expected, heading


def test_every_number_of_the_forgetting_table_is_the_runs(sweep: Document, run_folder: Path) -> None:
    forgetting = run_material(run_folder).tables["forgetting"]
    for heading, column in {
        "Forgetting": "forgetting",
        "95 % low": "low",
        "95 % high": "high",
        "Base": "base",
        "Tuned score": "tuned_score",
        "Examples": "n",
    }.items():
        cells = sweep.column("forgetting", heading)
        assert [float(value or "nan") for _, value in cells] == [float(value) for value in forgetting[column]], heading


def test_the_text_of_a_number_is_its_value_rounded(sweep: Document) -> None:
    for heading in ("Forgetting", "95 % low", "95 % high", "Base", "Tuned"):
        for text, value in sweep.column("forgetting", heading):
            # Three decimals are shown, so half a thousandth is the most that rounding moves.
            assert abs(float(text.replace("−", "-")) - float(value or "nan")) <= 0.0005 + 1e-12


def test_every_coefficient_of_the_statistics_table_is_computed_from_the_runs(sweep: Document, run_folder: Path) -> None:
    material = run_material(run_folder)
    rows = associations(material.done, material.tables["forgetting"])
    for heading, name in {"Spearman's ρ": "rho", "95 % low": "low", "95 % high": "high"}.items():
        shown = [None if value is None else float(value) for _, value in sweep.column("statistics", heading)]
        assert shown == [getattr(row, name) for row in rows], heading
    assert [text for text, _ in sweep.column("statistics", "Reading")] == [row.verdict for row in rows]


def test_every_number_of_the_matrices_table_is_the_scans(scan: Document) -> None:
    matrices = scan_of(3, intruders=9, bounds=True).to_dataframe()
    assert [text for text, _ in scan.column("matrices", "Matrix")] == list(matrices["name"])
    for heading, column in {
        "Intruder dimensions": "count",
        "Energy share": "energy_share",
        "‖ΔW‖": "update_frobenius",
        "Effective rank": "update_effective_rank",
    }.items():
        assert [float(value or "nan") for _, value in scan.column("matrices", heading)] == list(matrices[column]), (
            heading
        )


def test_the_data_of_every_figure_is_the_tables(scan: Document, sweep: Document, run_folder: Path) -> None:
    vectors = scan_of(3, intruders=9, bounds=True).to_dataframe("vectors")
    packed = scan.data["figures"]["vector-bounds"]["table"]
    for column in ("max_cosine", "lower", "upper", "singular_value"):
        # Six significant digits are kept.
        assert unpacked(packed["columns"][column], packed["rows"]) == pytest.approx(list(vectors[column]), rel=1e-5)
    trials = run_material(run_folder).tables["trials"]
    chosen = trials[trials["chosen"]]
    packed = sweep.data["figures"]["count-per-trial"]["table"]
    assert unpacked(packed["columns"]["count"], packed["rows"]) == list(chosen["count"])
    assert unpacked(packed["columns"]["label"], packed["rows"]) == list(chosen["label"])


def test_the_count_against_rank_has_every_adapter_and_no_full_fine_tuning(sweep: Document, run_folder: Path) -> None:
    trials = run_material(run_folder).tables["trials"]
    adapters = trials[trials["chosen"] & trials["rank"].notna()].sort_values("rank", kind="stable")
    packed = sweep.data["figures"]["count-rank"]["table"]
    for column in ("rank", "alpha", "count"):
        assert unpacked(packed["columns"][column], packed["rows"]) == list(adapters[column])
    assert "r = 8, α/r = 2: 31" in sweep.text


def test_a_checkpoint_of_224_matrices_stays_below_the_promised_size(tmp_path: Path) -> None:
    scan = scan_of(1, layers=32, roles=SEVEN, intruders=300, bounds=True)
    assert len(scan.matrices) == 224
    path = write_scan_report(pictured(scan, indices=16, points=64), tmp_path / "scan.html")
    assert path.stat().st_size <= 1_500_000
    document = Document(path)
    names = document.data["figures"]["similarity"]["table"]["columns"]["name"]["runs"][::2]
    assert names == [matrix.name for matrix in scan.matrices]


def test_curves_that_would_not_fit_are_thinned_then_left_out_and_this_is_said(tmp_path: Path) -> None:
    scan = scan_of(1, layers=40, roles=SEVEN, intruders=300, bounds=True)
    path = write_scan_report(pictured(scan, indices=16, points=64), tmp_path / "scan.html")
    document = Document(path)
    columns = document.data["figures"]["similarity"]["table"]["columns"]
    kept = columns["name"]["runs"][::2]
    assert columns["name"]["runs"][1::2] == [100] * len(kept)
    assert f"{280 - len(kept)} matrices with the fewest intruders have no similarity map" in document.text
    assert "spectra show 18 of their leading values" in document.text
    # The matrices with the most intruders keep theirs.
    counts = {matrix.name: matrix.count for matrix in scan.matrices}
    assert min(counts[name] for name in kept) >= max(count for name, count in counts.items() if name not in kept)


def test_a_sweep_of_12_trials_stays_below_the_promised_size(tmp_path: Path) -> None:
    recipes = [Recipe(f"LoRA r={2**i}", "lora", 2**i, (i, 9, 30), (0.01, 0.02, 0.03), 0.8) for i in range(4)]
    folder = write_run(tmp_path / "run", sweep_tables(recipes, layers=38))
    material = run_material(folder)
    assert len(material.tables["trials"]) == 12
    assert len(material.tables["matrices"]) == 12 * 228
    assert write_report(folder).stat().st_size <= 3_000_000


def test_every_figure_has_words_a_caption_and_its_data(sweep: Document, scan: Document) -> None:
    for document in (sweep, scan):
        charts = [attributes for _, attributes in document.tags if "data-figure" in attributes]
        assert charts
        identities = {attributes.get("id") for _, attributes in document.tags}
        for attributes in charts:
            assert attributes["role"] == "img"
            assert attributes["aria-label"]
            assert attributes["aria-describedby"] in identities
        assert len([tag for tag, _ in document.tags if tag == "figcaption"]) == len(charts)
        assert document.text.count("Not shown:") == len(charts)
        assert len([1 for tag, a in document.tags if tag == "details" and a.get("class") == "data"]) == len(charts)


def test_identities_are_unique(sweep: Document, scan: Document) -> None:
    for document in (sweep, scan):
        identities = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
        assert len(identities) == len(set(identities))


def test_the_page_says_how_it_was_made(sweep: Document) -> None:
    for text in (
        "spectra sweep --out runs/demo",
        "0123456789ab",
        "Linux x86_64",
        "24.0 GiB",
        "2.13.0",
        "methods.0.rank",
    ):
        assert text in sweep.text


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("colour", [FULL_COLOUR, *COLOURS])
@pytest.mark.parametrize("ground", ["#f5f7f9", "#1c2229"])
def test_marks_stand_out_from_both_grounds(colour: str, ground: str) -> None:
    light, dark = sorted((luminance(colour), luminance(ground)), reverse=True)
    # WCAG 2.2, success criterion 1.4.11: 3 to 1 for graphics.
    assert (light + 0.05) / (dark + 0.05) >= 3


@pytest.mark.parametrize("layers", [0, 1])
def test_a_scan_of_next_to_nothing_still_makes_a_page(tmp_path: Path, layers: int) -> None:
    path = write_scan_report(scan_of(1, layers=layers, intruders=0), tmp_path / "scan.html")
    assert "intruder dimension" in Document(path).text


@pytest.mark.parametrize("every", [True, False])
def test_forgetting_that_cannot_be_told_has_no_interval_and_says_why(every: bool, tmp_path: Path) -> None:
    reason = "there is only 1 example, and 20 are needed"
    rows = sweep_tables()
    for row in rows["forgetting"] if every else rows["forgetting"][::4]:
        row |= {"n": 1, "low": None, "high": None, "finding": "cannot tell", "cannot_tell": reason}
    page = Document(write_report(write_run(tmp_path / "run", rows), tmp_path / "report.html"))
    said = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert reason in said and ("whether any trial forgot" in said) == every
    assert "(no interval)" in said or not every
    assert "[nan" not in said and "NaN" not in said and "Infinity" not in said
    assert [text for text, _ in page.column("forgetting", "Reading")].count("cannot tell") >= 1
