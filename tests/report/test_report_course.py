"""What a sweep records along the way and side by side: trajectories and pairs, on the page as in their tables."""

from pathlib import Path
from typing import Any

import pytest
from document import Document
from fabricated import EPSILON, SWEEP, K, sweep_tables, write_run
from test_report_packed import unpacked

from spectra.report import report_on, write_comparison
from spectra.runs import Run

STEPS = (0, 50, 100, 200)


def trajectory(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "trial": trial["trial"], "step": step, "loss": None if step == 0 else 1 / step,
            "count": trial["count"] * step // 200, "matrices": 36, "k": K, "epsilon": EPSILON,
            "energy_share": trial["energy_share"] * step / 200,
            "update_relative": trial["update_relative"] * (step / 200) ** 0.5, "effective_rank": 3.0,
        }
        for trial in trials
        for step in STEPS
    ]  # fmt: skip


def pairs(rows: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    chosen = {trial["label"]: trial for trial in rows["trials"] if trial["chosen"]}
    forgotten = {(row["trial"], row["heldout"]): row["forgetting"] for row in rows["forgetting"]}
    full = chosen[SWEEP[0].label]
    return [
        {
            "trial": trial["trial"], "full_trial": full["trial"], "label": label, "seed": 0, "matched_on": matched,
            "gap": 0.01, "full_learning_rate": full["learning_rate"], "score": trial["validation_score"],
            "full_score": full["validation_score"], "norm": trial["update_frobenius"],
            "full_norm": full["update_frobenius"], "count": trial["count"], "full_count": full["count"],
            "heldout": heldout, "forgetting": forgotten[trial["trial"], heldout],
            "full_forgetting": forgotten[full["trial"], heldout],
        }
        for label, trial in chosen.items()
        if label != SWEEP[0].label
        for matched in ("budget", "score", "norm")
        for heldout in dict.fromkeys(row["heldout"] for row in rows["forgetting"])
    ]  # fmt: skip


def continual(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Three tasks; each loses a tenth with every further one."""
    return [
        {
            "trial": trial["trial"], "step": step, "learnt": f"task-{step}", "task": f"task-{task}", "task_step": task,
            "metric": "accuracy", "score": 0.9 - 0.1 * (step - task), "examples": 200, "lost": 0.1 * (step - task),
            "matrices": 36, "count_base": trial["count"] * step, "count_previous": trial["count"],
        }
        for trial in trials
        for step in (1, 2, 3)
        for task in range(1, step + 1)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = sweep_tables()
    rows |= {"trajectory": trajectory(rows["trials"]), "pairs": pairs(rows)}
    rows["continual"] = continual(rows["trials"])
    return write_run(tmp_path_factory.mktemp("course") / "run", rows)


@pytest.fixture(scope="module")
def page(folder: Path) -> Document:
    return Document(report_on([folder]))


def test_trajectories_are_those_of_the_chosen_trials(folder: Path, page: Document) -> None:
    run = Run.open(folder)
    chosen = run.table("trials").query("chosen")["trial"]
    expected = run.table("trajectory")
    expected = expected[expected["trial"].isin(chosen)]
    for measure in ("count", "energy_share", "update_relative"):
        packed = page.data["figures"][f"trajectory-{measure.replace('_', '-')}"]["table"]
        assert unpacked(packed["columns"]["step"], packed["rows"]) == list(expected["step"])
        assert unpacked(packed["columns"][measure], packed["rows"]) == pytest.approx(list(expected[measure]), rel=1e-5)


def test_a_measure_that_never_varies_has_no_trajectory(page: Document) -> None:
    assert "trajectory-effective-rank" not in page.data["figures"]
    assert "LoRA r=8 α=16: from 0 at step 0 to 31.0 at step 200" in page.text


def test_every_number_of_the_pairs_is_the_runs(folder: Path, page: Document) -> None:
    table = Run.open(folder).table("pairs")
    columns = {
        "Forgetting": "forgetting",
        "Full: forgetting": "full_forgetting",
        "Intruders": "count",
        "Left over": "gap",
    }
    for heading, column in columns.items():
        assert [float(value or "nan") for _, value in page.column("pairs", heading)] == list(table[column]), heading
    assert {text for text, _ in page.column("pairs", "Paired with full at")} == {
        "equal budget",
        "matched score",
        "matched norm",
    }


def test_the_pairs_of_a_held_out_task_say_who_forgot_more(folder: Path, page: Document) -> None:
    table = Run.open(folder).table("pairs")
    for number, (_, rows) in enumerate(table.groupby("heldout", sort=False)):
        packed = page.data["figures"][f"pairs-{number}"]["table"]
        assert unpacked(packed["columns"]["forgetting"], packed["rows"]) == pytest.approx(list(rows["forgetting"]))
        more = int((rows["forgetting"] > rows["full_forgetting"]).sum())
        assert f"the adapter forgot more: {more} of {len(rows)} pairs." in page.text


def test_a_sequence_of_tasks_is_drawn_as_it_was_measured(folder: Path, page: Document) -> None:
    run = Run.open(folder)
    expected = run.table("continual")
    expected = expected[expected["trial"].isin(run.table("trials").query("chosen")["trial"])]
    lost = page.data["figures"]["continual-scores"]["table"]
    assert unpacked(lost["columns"]["lost"], lost["rows"]) == pytest.approx(list(expected["lost"]))
    counts = page.data["figures"]["continual-count"]["table"]
    steps = expected.drop_duplicates(["trial", "step"])
    assert unpacked(counts["columns"]["count_base"], counts["rows"]) == list(steps["count_base"])
    assert "LoRA r=8 α=16: from 31 after the first task to 93 after 3" in page.text


def test_pairs_of_two_runs_stay_apart(folder: Path, tmp_path: Path) -> None:
    other = write_run(tmp_path / "other", sweep_tables())
    document = Document(write_comparison([folder, other], tmp_path / "both.html"))
    assert all(text.startswith("run: ") for text, _ in document.column("pairs", "Adapter"))
