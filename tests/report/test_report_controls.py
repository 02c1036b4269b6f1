"""The controls and the spectra of the updates of a sweep, on the page as in their tables."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from document import Document
from fabricated import EPSILON, K, sweep_tables, write_run
from test_report_packed import unpacked

from spectra.report import write_report
from spectra.runs import Run


def drawn(page: Document, figure: str) -> pd.DataFrame:
    packed = page.data["figures"][figure]["table"]
    return pd.DataFrame({name: unpacked(column, packed["rows"]) for name, column in packed["columns"].items()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("controls") / "run", sweep_tables(seeds=(0, 1), layers=1))


@pytest.fixture(scope="module")
def page(folder: Path) -> Document:
    return Document(write_report(folder))


@pytest.fixture(scope="module")
def controls(folder: Path) -> pd.DataFrame:
    """Verdicts with the labels of their trials."""
    run = Run.open(folder)
    return run.table("controls").merge(run.table("trials")[["trial", "label"]], on="trial")


@pytest.mark.parametrize("epsilon", [0.3, EPSILON, 0.9, 1.0])
def test_the_counts_of_controls_against_epsilon_are_means_over_seeds(
    page: Document, controls: pd.DataFrame, epsilon: float
) -> None:
    table = drawn(page, "count-epsilon")
    at = table[(table["epsilon"] == epsilon) & (table["update"] != "trained")]
    expected = controls.assign(below=controls["upper"] < epsilon).groupby(["label", "control"])["below"].sum() / 2
    assert at.set_index(["label", "update"])["count"].to_dict() == expected.to_dict()


def test_the_counts_of_controls_against_k_are_means_over_seeds(page: Document, controls: pd.DataFrame) -> None:
    table = drawn(page, "count-k")
    for k in (1, 8, K):
        at = table[(table["k"] == k) & (table["update"] != "trained")]
        intruding = controls["is_intruder"].astype(bool) & (controls["index"] < k)
        expected = controls.assign(intruding=intruding).groupby(["label", "control"])["intruding"].sum() / 2
        assert at.set_index(["label", "update"])["count"].to_dict() == expected.to_dict()


def test_controls_are_told_in_words(page: Document, controls: pd.DataFrame) -> None:
    mine = controls[(controls["label"] == "full") & (controls["control"] == "random low rank")]
    count = mine["is_intruder"].sum() / 2
    assert count > 0
    for said in page.text.split("random low rank of full: ")[1:]:
        # Three significant digits are said.
        assert float(said.split(";")[0]) == pytest.approx(count, rel=5e-3)
    assert page.text.count("random low rank of full: ") == 2  # against epsilon and against k
    assert "storage rounding (dotted)" in page.text


def test_the_spectra_are_medians_over_matrices_and_seeds(folder: Path, page: Document) -> None:
    run = Run.open(folder)
    values = run.table("update_spectra").merge(run.table("trials")[["trial", "label"]], on="trial")
    table = drawn(page, "update-spectra")
    assert table.groupby("label")["position"].max().to_dict() == {
        "full": 64, "LoRA r=1 α=2": 1, "LoRA r=8 α=16": 8, "LoRA r=64 α=128": 64, "LoRA r=64 α=8": 64,
    }  # fmt: skip
    wide = values[values["label"] == "LoRA r=8 α=16"].pivot_table(
        index=["trial", "name"], columns="index", values="value"
    )
    expected = wide.div(wide.max(axis=1), axis=0).median()
    mine = table[table["label"] == "LoRA r=8 α=16"].sort_values("position")
    # Six significant digits are kept.
    assert mine["median"].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert set(mine["matrices"]) == {len(wide)}


def test_a_run_of_an_earlier_version_has_no_controls_and_the_same_curves(tmp_path: Path, page: Document) -> None:
    rows: dict[str, Any] = sweep_tables(seeds=(0, 1), layers=1)
    del rows["controls"], rows["update_spectra"]
    earlier = Document(write_report(write_run(tmp_path / "run", rows)))
    assert "update-spectra" not in earlier.data["figures"]
    assert "Controls there" not in earlier.text
    assert "Controls there" in page.text
    for figure in ("count-epsilon", "count-k"):
        own, both = drawn(earlier, figure), drawn(page, figure)
        pd.testing.assert_frame_equal(
            own.drop(columns="update"), both[both["update"] == "trained"][own.drop(columns="update").columns],
            check_dtype=False,
        )  # fmt: skip
