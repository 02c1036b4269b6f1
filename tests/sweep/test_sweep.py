from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from spectra import intruders
from spectra.errors import RunError, SpectraError
from spectra.runs import SCHEMAS, Run
from spectra.sweep import Event, read_specification, run_sweep
from spectra.sweep.spec.plan import plan
from spectra.sweep.trial import training
from spectra.training.driver import Trained, train
from spectra.training.settings import TrainingSettings
from tests import tiny
from tests.sweep.conftest import assert_same_tables


def started(events: list[Event]) -> list[tuple[str, str, str]]:
    return [(event.job.kind, event.job.trial.id, event.stage) for event in events if event.what == "started"]


def test_a_sweep_leaves_every_documented_table(undisturbed: Run) -> None:
    for name, schema in SCHEMAS.items():
        table = undisturbed.table(name)
        assert (len(table) > 0) == (name != "continual"), name  # one task here, and no sequence
        assert list(table.columns)[: len(schema)] == [column.name for column in schema]
        assert len(pd.read_csv(undisturbed.path / "tables" / f"{name}.csv")) == len(table)


def test_every_trial_was_trained_scanned_and_measured(undisturbed: Run) -> None:
    trials = undisturbed.table("trials")
    assert list(trials["label"]) == ["full", "full", "LoRA r=1 α=2", "LoRA r=4 α=8"]
    assert (trials["status"] == "done").all()
    assert trials["matrices"].tolist() == [12] * 4
    assert trials["steps"].tolist() == [12] * 4
    assert trials[["validation_score", "count", "energy_share", "update_relative"]].notna().all().all()
    assert trials["scaling"].isna().tolist() == [True, True, False, False]
    per_trial = undisturbed.table("forgetting").groupby("trial")["heldout"].nunique()
    assert per_trial.tolist() == [2] * 4
    assert undisturbed.table("vectors").groupby("trial").size().tolist() == [12 * 10] * 4


def test_the_learning_rate_is_chosen_on_the_validation_score_and_tested_alone(undisturbed: Run) -> None:
    trials = undisturbed.table("trials")
    full = trials[trials["label"] == "full"]
    assert full["chosen"].sum() == 1
    best = full.sort_values(["validation_score", "learning_rate"], ascending=[False, True]).iloc[0]
    assert bool(best["chosen"])
    assert trials["task_score"].notna().tolist() == trials["chosen"].tolist()
    assert trials["task_examples"].dropna().unique().tolist() == [30]


def test_the_counts_are_those_of_the_saved_weights(undisturbed: Run, specification: dict[str, Any]) -> None:
    trials = undisturbed.table("trials")
    adapters = trials[trials["method"] == "lora"]
    for _, row in adapters.iterrows():
        folder = undisturbed.trial(str(row["trial"])).adapter
        scan = intruders(folder, specification["base"], method="exact", dense_norms=True)
        assert scan.count == row["count"]
        norms = [matrix.update.frobenius for matrix in scan.matrices if matrix.update]
        assert sum(norm**2 for norm in norms) ** 0.5 == pytest.approx(row["update_frobenius"], rel=1e-5)
        head = [name for name in load_file(folder / "adapter_model.safetensors") if "lora" not in name]
        assert all("classifier" in name or "pooler" in name for name in head)


def test_the_trajectory_ends_where_the_scan_of_the_saved_weights_does(undisturbed: Run) -> None:
    trials, trajectory = undisturbed.table("trials"), undisturbed.table("trajectory")
    assert trajectory.groupby("trial")["step"].apply(list).tolist() == [[2, 4, 6, 8, 10, 12]] * 4
    last = trajectory.groupby("trial").last()
    for _, row in trials.iterrows():
        found = last.loc[str(row["trial"])]
        assert found["count"] == row["count"]
        for name in ("energy_share", "update_frobenius", "update_relative", "effective_rank"):
            assert found[name] == pytest.approx(row[name], rel=1e-4), name
    losses = undisturbed.table("history").set_index(["trial", "step"])["loss"]
    assert trajectory["loss"].tolist() == [
        losses[key] for key in zip(trajectory["trial"], trajectory["step"], strict=True)
    ]
    assert trajectory.groupby("trial")["tokens"].is_monotonic_increasing.all()
    matrices = undisturbed.table("trajectory_matrices")
    assert matrices.groupby(["trial", "step"])["count"].sum().tolist() == trajectory["count"].tolist()


def test_weights_kept_along_the_way_are_those_of_their_row(specification: dict[str, Any], tmp_path: Path) -> None:
    given = {**specification, "heldout": [], "keep": "all", "keep_steps": [3, 6], "trajectory": 0, "steps": 6}
    run = run_sweep(given, tmp_path / "run", axes=["learning_rate=3e-2", "rank=1"], executor="inline")
    trajectory = run.table("trajectory")
    assert trajectory["step"].tolist() == [3, 6, 3, 6]
    for row in trajectory.to_dict("records"):
        folder = run.trial(row["trial"])
        assert folder.path / row["weights"] == folder.kept[row["step"]]
        scan = intruders(folder.kept[row["step"]], specification["base"], method="exact", dense_norms=True)
        assert scan.count == row["count"]
        assert sum(m.update.frobenius**2 for m in scan.matrices if m.update) ** 0.5 == pytest.approx(
            row["update_frobenius"], rel=1e-4
        )
    assert [sorted(folder.kept) for folder in run.trials()] == [[3, 6], [3, 6]]


def test_full_checkpoints_kept_along_the_way_go_with_the_others(specification: dict[str, Any], tmp_path: Path) -> None:
    given = {**specification, "heldout": [], "keep_steps": [2], "steps": 3}
    run = run_sweep(given, tmp_path / "run", axes=["learning_rate=3e-2", "rank=1"], executor="inline")
    kept = {folder.specification["method"]: sorted(folder.kept) for folder in run.trials()}
    assert kept == {"full": [], "lora": [2]}


def test_a_sweep_without_a_trajectory_has_none(specification: dict[str, Any], tmp_path: Path) -> None:
    given = {**specification, "heldout": [], "trajectory": 0, "steps": 2}
    run = run_sweep(given, tmp_path / "run", axes=["method=lora", "rank=1"], executor="inline")
    assert len(run.table("trajectory")) == len(run.table("trajectory_matrices")) == 0


def test_full_checkpoints_may_be_stored_in_bfloat16(specification: dict[str, Any], tmp_path: Path) -> None:
    given = {**specification, "heldout": [], "keep": "all", "store_dtype": "bfloat16", "steps": 3}
    run = run_sweep(given, tmp_path / "run", axes=["method=full", "learning_rate=3e-2"], executor="inline")
    (folder,) = run.trials()
    stored = load_file(folder.checkpoint / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values() if tensor.is_floating_point()} == {torch.bfloat16}
    (trial,) = run.table("trials").to_dict("records")
    assert "both are compared in bfloat16" in trial["notes"]
    scan = intruders(folder.checkpoint, specification["base"], method="exact", dense_norms=True)
    assert scan.count == trial["count"]
    assert trial["task_score"] > 0


def test_full_checkpoints_go_and_adapters_stay_by_default(undisturbed: Run) -> None:
    trials = undisturbed.table("trials")
    kept = {
        str(row["method"]): undisturbed.trial(str(row["trial"])).weights is not None for _, row in trials.iterrows()
    }
    assert kept == {"full": False, "lora": True}
    assert not list(undisturbed.path.rglob("training"))
    assert not list(undisturbed.path.rglob("*.partial"))


def test_all_weights_stay_when_asked(specification: dict[str, Any], tmp_path: Path) -> None:
    axes = ["method=full", "learning_rate=1e-2", "steps=2"]
    run = run_sweep({**specification, "keep": "all", "heldout": []}, tmp_path / "run", axes=axes, executor="inline")
    (trial,) = run.trials()
    assert (trial.checkpoint / "model.safetensors").exists()


def test_a_finished_sweep_does_nothing_again(undisturbed: Run, specification: dict[str, Any]) -> None:
    events: list[Event] = []
    before = {path: path.stat().st_mtime_ns for path in undisturbed.path.glob("trials/*/*")}
    run_sweep(specification, undisturbed.path, executor="inline", on_event=events.append)
    assert events == []
    assert {path: path.stat().st_mtime_ns for path in undisturbed.path.glob("trials/*/*")} == before


def test_a_new_axis_value_adds_trials_and_keeps_the_old_ones(specification: dict[str, Any], tmp_path: Path) -> None:
    fewer = {**specification, "methods": specification["methods"][1:], "heldout": [], "steps": 3}
    run_sweep(fewer, tmp_path / "run", axes=["rank=1"], executor="inline")
    events: list[Event] = []
    run = run_sweep(fewer, tmp_path / "run", axes=["rank=1,2"], executor="inline", on_event=events.append)
    assert {trial for kind, trial, _ in started(events) if kind == "trial"} == {
        trial.id for trial in plan(read_specification(fewer, ["rank=2"]))
    }
    assert run.table("trials")["rank"].tolist() == [1, 2]


def test_a_larger_grid_moves_the_choice(specification: dict[str, Any], tmp_path: Path) -> None:
    given = {**specification, "heldout": [], "methods": [{"method": "full", "learning_rate": 1e-6}]}
    first = run_sweep(given, tmp_path / "run", executor="inline").table("trials")
    assert first["chosen"].tolist() == [True]
    axes = ["learning_rate=1e-6,1e-2"]
    both = run_sweep(given, tmp_path / "run", axes=axes, executor="inline").table("trials").set_index("learning_rate")
    best = both["validation_score"].idxmax()
    assert both["chosen"].to_dict() == {1e-6: best == 1e-6, 1e-2: best == 1e-2}
    assert both["task_score"].notna().to_dict() == both["chosen"].to_dict()


def test_another_sweep_does_not_get_into_the_folder(undisturbed: Run, specification: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=r"its epsilon is 0\.5, not 0\.3\. Choose another --out"):
        run_sweep({**specification, "epsilon": 0.3}, undisturbed.path, executor="inline")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (RunError("The training loss is nan at step 3. Lower it."), "The training loss is nan at step 3. Lower it."),
        (ValueError("no such thing\nand more"), "ValueError: no such thing. Read '"),
        (OSError(28, "No space left on device", "x.bin"), "The system says: No space left on device at 'x.bin'. Mend"),
    ],
)
def test_a_trial_that_fails_is_recorded_in_its_own_words_and_the_rest_goes_on(
    error: Exception, sentence: str, specification: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_or_fail(settings: TrainingSettings, *args: Any, **kwargs: Any) -> Trained:
        if settings.rank == 2:
            raise error
        return train(settings, *args, **kwargs)

    monkeypatch.setattr(training, "train", train_or_fail)
    given = {**specification, "methods": specification["methods"][1:], "heldout": [], "steps": 1, "trajectory": 0}
    events: list[Event] = []
    run = run_sweep(given, tmp_path / "run", axes=["rank=1,2"], executor="inline", on_event=events.append)
    trials = run.table("trials").set_index("status")
    assert trials.loc["failed", "label"] == "LoRA r=2 α=4"
    assert str(trials.loc["failed", "error"]).startswith(sentence)
    assert trials.loc["done", "chosen"]
    assert [event.what for event in events if event.message] == ["failed"]


def test_a_base_that_is_not_there_stops_the_sweep(specification: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SpectraError, match="absent"):
        run_sweep({**specification, "base": "./absent"}, tmp_path / "run", executor="inline")


def test_two_seeds_share_one_choice(specification: dict[str, Any], tmp_path: Path) -> None:
    given = {**specification, "methods": specification["methods"][:1], "heldout": [], "seeds": [0, 1]}
    trials = run_sweep(given, tmp_path / "run", executor="inline").table("trials")
    assert trials[trials["chosen"]]["seed"].tolist() == [0, 1]
    assert trials[trials["chosen"]]["learning_rate"].nunique() == 1
    means = trials.groupby("learning_rate")["validation_score"].mean()
    assert trials[trials["chosen"]]["learning_rate"].iloc[0] == means.idxmax()


@pytest.mark.parametrize(
    ("family", "save"), [("llama", tiny.save_prose), ("llama", tiny.save_answers), ("t5", tiny.save_answers)]
)
def test_language_models_run_through_the_whole_chain(family: str, save: Any, tmp_path: Path) -> None:
    given = {
        "base": tiny.save_model(tmp_path / family, family),
        "task": save(tmp_path / "task.jsonl"),
        "heldout": [{"task": tiny.save_prose(tmp_path / "prose.jsonl", 60, seed=9), "max_length": 16}],
        "methods": [
            {"method": "full", "learning_rate": 1e-2},
            {"method": "lora", "rank": 2, "learning_rate": 1e-2},
        ],
        "steps": 3,
        "batch_size": 4,
        "max_length": 16,
    }
    if family == "t5":
        given["heldout"] = []
    trials = run_sweep(given, tmp_path / "run", executor="inline").table("trials")
    assert (trials["error"] == "").all()
    assert trials["task_metric"].unique().tolist() == ["negative loss"]
    assert trials["base_task_score"].notna().all()
    assert (trials["task_score"] > trials["base_task_score"]).all()


def test_shards_one_after_the_other_give_the_same_table(
    undisturbed: Run, specification: dict[str, Any], tmp_path: Path
) -> None:
    first = run_sweep(specification, tmp_path / "run", shard=(1, 2), executor="inline")
    assert len(first.table("trials")) == 3
    assert_same_tables(run_sweep(specification, tmp_path / "run", shard=(2, 2), executor="inline"), undisturbed)
