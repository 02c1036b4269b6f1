"""Interventions on a page: the verdict as it was reached, every number the table's, wherever the folder lies."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from document import Document
from fabricated import HOSTILE, SHOWN, sweep_tables, write_run
from fabricated_interventions import ARMS, SENTENCE, contrasts_of, rows_of, write_intervention
from test_report_packed import unpacked

from spectra.errors import RunError
from spectra.figures.interventions import intervention_figures
from spectra.report import report_on
from spectra.runs import tidy


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Document:
    folder = write_intervention(tmp_path_factory.mktemp("intervention") / "out", heldouts=("prose", "news"))
    return Document(report_on([folder]))


def test_the_verdict_stands_first_and_unchanged(alone: Document) -> None:
    findings = alone.text.split("Before you rely on this")[0]
    assert f"prose: {SENTENCE}." in findings
    assert f"news: {SENTENCE}." in findings
    assert "Only 300 examples of prose." in alone.text


def test_every_number_of_the_contrasts_is_the_tables(alone: Document) -> None:
    table = tidy("intervention_contrasts", contrasts_of(heldouts=("prose", "news")))
    for heading, column in {
        "Equal λ": "forgetting_area",
        "Equal score": "equal_score",
        "Task score": "task_area",
    }.items():
        shown = [float(value or "nan") for _, value in alone.column("contrasts", heading)]
        assert shown == list(table[column]), heading
    lows = [at for at, (text, _) in enumerate(alone.tables["contrasts"][0]) if text == "low"]
    shown = [[float(row[at][1] or "nan") for at in lows] for row in alone.tables["contrasts"][1:]]
    assert shown == table[["forgetting_low", "equal_score_low", "task_low"]].to_numpy().tolist()
    assert [text for text, _ in alone.column("contrasts", "Reading")] == list(table["verdict"])


def test_the_data_of_both_figures_are_the_points(alone: Document) -> None:
    figures = alone.data["figures"]
    assert list(figures) == ["intervention-0", "intervention-score-0", "intervention-1", "intervention-score-1"]
    points = tidy("interventions", rows_of())
    for name in ("intervention-0", "intervention-score-0"):
        packed = figures[name]["table"]
        assert unpacked(packed["columns"]["arm"], packed["rows"]) == list(points["arm"])
        for column in ("factor", "forgetting", "low", "high", "task_score"):
            # Six significant digits are kept.
            assert unpacked(packed["columns"][column], packed["rows"]) == pytest.approx(list(points[column]), rel=1e-5)


def test_every_arm_is_told_in_words_at_its_ends_and_as_tuned(alone: Document) -> None:
    assert (
        "intruders: +0.100 nats per token at λ = 0, +0.200 nats per token at λ = 1, +0.250 nats per token" in alone.text
    )
    assert alone.text.count("at λ = 1.5") >= len(ARMS)


def test_without_a_task_there_is_no_score_figure(tmp_path: Path) -> None:
    document = Document(report_on([write_intervention(tmp_path / "out", task="")]))
    assert list(document.data["figures"]) == ["intervention-0"]
    assert "Equal score" not in [text for text, _ in document.tables["contrasts"][0]]


@pytest.mark.parametrize("place", ["run/interventions/first", "run/trials/trial-210/interventions", "elsewhere"])
def test_a_run_shows_its_interventions_by_the_names_of_its_trials(tmp_path: Path, place: str) -> None:
    run = write_run(tmp_path / "run", sweep_tables())
    folder = write_intervention(tmp_path / place, trial="trial-210")
    path = report_on([run]) if place.startswith("run/") else report_on([run, folder], tmp_path / "report.html")
    document = Document(path)
    assert "Do the intruders cause the forgetting?" in document.text
    assert f"LoRA r=8 α=16 at 1e−3: prose: {SENTENCE}." in document.text
    assert [text for text, _ in document.column("contrasts", "Checkpoint")] == ["LoRA r=8 α=16 at 1e−3"] * (
        len(ARMS) - 1
    )
    assert len(document.tables["trials"]) == 1 + 15
    assert "Intervention: Only 300 examples of prose." in document.text


def test_a_run_without_interventions_has_no_such_section(tmp_path: Path) -> None:
    document = Document(report_on([write_run(tmp_path / "run", sweep_tables())]))
    assert "Do the intruders cause the forgetting?" not in document.text


def test_two_interventions_are_compared(tmp_path: Path) -> None:
    first = write_intervention(tmp_path / "a", checkpoint="adapters/one")
    second = write_intervention(tmp_path / "b", checkpoint="adapters/two")
    document = Document(report_on([first, second], tmp_path / "both.html"))
    assert f"adapters/one: prose: {SENTENCE}." in document.text
    assert f"adapters/two: prose: {SENTENCE}." in document.text


def test_hostile_names_are_text(tmp_path: Path) -> None:
    folder = write_intervention(tmp_path / "out", checkpoint=HOSTILE, heldouts=(HOSTILE,), task=HOSTILE)
    path = report_on([folder])
    assert SHOWN in Document(path).text
    assert "<script>alert" not in path.read_text(encoding="utf-8")


def test_a_damaged_folder_is_named(tmp_path: Path) -> None:
    folder = write_intervention(tmp_path / "out")
    (folder / "interventions.json").write_text("{")
    with pytest.raises(RunError, match=r"interventions\.json' is not valid JSON"):
        report_on([folder])


def test_intervals_without_ends_are_left_open_in_page_and_figures(tmp_path: Path) -> None:
    folder = write_intervention(tmp_path / "out")
    ends = {"low", "high", "change_low", "change_high", "forgetting_low", "forgetting_high", "equal_score_low"}
    for name in ("interventions", "intervention_contrasts"):
        table = pd.read_parquet(folder / f"{name}.parquet")
        table[[column for column in table if column in ends]] = np.nan
        table.to_parquet(folder / f"{name}.parquet")
    page = Document(report_on([folder]))
    assert "NaN" not in page.text and "[nan" not in page.text
    for _, figure in intervention_figures(folder):
        figure.savefig(io.BytesIO(), format="svg")
