"""What the charts draw, against the same figures computed by plain loops over the run's Parquet files."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from document import Document
from fabricated import sweep_tables, write_run
from test_report_controls import drawn

from spectra.report import write_report

SEEDS = (0, 1, 2)
# Numbers on a page are kept to six digits.
DIGITS = {"rel": 1e-5, "abs": 1e-9}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("charts") / "run", sweep_tables(seeds=SEEDS, layers=2))


@pytest.fixture(scope="module")
def page(folder: Path) -> Document:
    return Document(write_report(folder))


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    return pq.read_table(folder / "tables" / f"{table}.parquet").to_pylist()  # type: ignore[no-any-return]


def chosen(folder: Path) -> dict[str, dict[str, Any]]:
    return {row["trial"]: row for row in rows(folder, "trials") if row["chosen"]}


def test_score_and_forgetting_are_those_of_the_tables(folder: Path, page: Document) -> None:
    trials, tasks = chosen(folder), list(dict.fromkeys(row["heldout"] for row in rows(folder, "forgetting")))
    assert len(tasks) == 2
    for number, task in enumerate(tasks):
        expected = {
            (trials[row["trial"]]["label"], trials[row["trial"]]["seed"]): (
                trials[row["trial"]]["task_score"], row["forgetting"], row["low"], row["high"],
                trials[row["trial"]]["count"],
            )
            for row in rows(folder, "forgetting")
            if row["heldout"] == task and row["trial"] in trials
        }  # fmt: skip
        points = drawn(page, f"score-forgetting-{number}")
        assert len(points) == len(expected) == 5 * len(SEEDS)
        for point in points.to_dict("records"):
            found = [point[name] for name in ("task_score", "forgetting", "low", "high", "count")]
            assert found == pytest.approx(expected[point["label"], point["seed"]], **DIGITS)


@pytest.mark.parametrize("epsilon", [0.2, 0.5, 0.74, 1.0])
def test_the_count_at_every_epsilon_is_the_number_of_vectors_below_it(
    folder: Path, page: Document, epsilon: float
) -> None:
    trials = chosen(folder)
    proven: dict[str, int] = defaultdict(int)
    possible: dict[str, int] = defaultdict(int)
    for row in rows(folder, "vectors"):
        if row["trial"] in trials and row["side"] == "left":
            proven[row["trial"]] += row["upper"] < epsilon
            possible[row["trial"]] += row["lower"] < epsilon
    points = drawn(page, "count-epsilon")
    points = points[(points["update"] == "trained") & ((points["epsilon"] - epsilon).abs() < 1e-9)]
    assert len(points) == len(trials)
    for point in points.to_dict("records"):
        assert (point["count"], point["at_most"]) == (proven[point["trial"]], possible[point["trial"]])


def test_the_count_at_every_k_takes_the_first_k_vectors_of_each_matrix(folder: Path, page: Document) -> None:
    trials = chosen(folder)
    points = drawn(page, "count-k")
    points = points[points["update"] == "trained"]
    assert sorted(set(points["k"])) == list(range(1, 11))
    for point in points.to_dict("records"):
        marked = [
            row["is_intruder"]
            for row in rows(folder, "vectors")
            if row["trial"] == point["trial"] and row["side"] == "left" and row["index"] < point["k"]
        ]
        assert (point["count"], point["vectors"]) == (sum(marked), len(marked))
    assert set(points["trial"]) == set(trials)


def test_the_layer_maps_hold_the_count_of_every_matrix_of_a_trial(folder: Path, page: Document) -> None:
    trials = chosen(folder)
    expected = {
        (f"{trials[row['trial']]['label']} (seed {trials[row['trial']]['seed']})", row["name"]): row["count"]
        for row in rows(folder, "matrices")
        if row["trial"] in trials
    }
    cells = drawn(page, "layer-maps").to_dict("records")
    assert cells and {cell["count"] for cell in cells} != {0}
    for cell in cells:
        assert cell["count"] == expected[cell["series"], cell["name"]]
    # A map is drawn whole or not at all.
    shown = {cell["series"] for cell in cells}
    assert len(cells) == len([key for key in expected if key[0] in shown])


def test_forgetting_against_the_count_holds_every_trial_at_every_rate(folder: Path, page: Document) -> None:
    trials = {row["trial"]: row for row in rows(folder, "trials")}
    tasks = list(dict.fromkeys(row["heldout"] for row in rows(folder, "forgetting")))
    for number, task in enumerate(tasks):
        expected = sorted(
            (trials[row["trial"]]["label"], trials[row["trial"]]["learning_rate"], trials[row["trial"]]["seed"],
             trials[row["trial"]]["count"], row["forgetting"])
            for row in rows(folder, "forgetting")
            if row["heldout"] == task
        )  # fmt: skip
        points = drawn(page, f"forgetting-count-{number}")
        found = points[["label", "learning_rate", "seed", "count", "forgetting"]].values.tolist()
        assert [row[0] for row in sorted(found)] == [row[0] for row in expected]
        for mine, theirs in zip(sorted(found), expected, strict=True):
            assert mine[1:] == pytest.approx(theirs[1:], **DIGITS)
