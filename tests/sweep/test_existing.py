"""Checkpoints that exist already, as trials of a sweep."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from spectra import intruders
from spectra.cli.main import main
from spectra.errors import SpecificationError
from spectra.runs import Run
from spectra.sweep import read_specification, run_sweep
from spectra.sweep.spec.kinds import ExistingCheckpoint, TrialKind, kind_from_dict
from spectra.sweep.spec.plan import plan, planned


@pytest.fixture(scope="module")
def trained(specification: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two trained checkpoints, kept: where the checkpoints of the tests come from."""
    methods = [{"method": "full", "learning_rate": 1e-2}, {"method": "lora", "rank": 2, "learning_rate": 3e-2}]
    given = {**specification, "methods": methods, "steps": 4, "keep": "all"}
    return run_sweep(given, tmp_path_factory.mktemp("trained") / "run", executor="inline")


def checkpoints(trained: Run) -> list[Any]:
    full, lora = trained.table("trials")["trial"]
    adapter = {"checkpoint": str(trained.trial(lora).adapter), "label": "mine", "method": "lora", "rank": 2, "alpha": 4}
    return [str(trained.trial(full).checkpoint), adapter]


def test_they_get_the_figures_of_the_sweep_that_trained_them(
    trained: Run, specification: dict[str, Any], tmp_path: Path
) -> None:
    given = {name: specification[name] for name in ("base", "task", "heldout", "max_length", "batch_size")}
    run = run_sweep({**given, "checkpoints": checkpoints(trained)}, tmp_path / "run", executor="inline")
    table, expected = run.table("trials").set_index("label"), trained.table("trials").set_index("method")
    assert table["error"].tolist() == ["", ""]
    for label, method in (("checkpoint", "full"), ("mine", "lora")):
        for column in ("count", "validation_score", "task_score", "update_frobenius"):
            assert table.loc[label, column] == pytest.approx(expected.loc[method, column], rel=1e-5), column
    assert table.loc["mine", ["method", "rank", "alpha"]].tolist() == ["lora", 2, 4.0]
    assert table[["learning_rate", "seed", "steps"]].isna().all().all()
    lost, before = run.table("forgetting"), trained.table("forgetting")
    assert sorted(lost["forgetting"].round(6)) == sorted(before["forgetting"].round(6))


def test_without_a_task_they_are_scanned_and_measured_and_the_report_is_written(
    trained: Run, specification: dict[str, Any], tmp_path: Path
) -> None:
    given = {"base": specification["base"], "heldout": specification["heldout"], "checkpoints": checkpoints(trained)}
    out = tmp_path / "run"
    run = run_sweep(given, out, executor="inline")
    table = run.table("trials")
    for _, row in table.iterrows():
        one = plan(read_specification(given))[0 if row["label"] == "checkpoint" else 1].kind
        assert isinstance(one, ExistingCheckpoint)
        assert intruders(one.checkpoint, specification["base"]).count == row["count"]
    assert table["task_score"].isna().all()
    assert len(run.table("forgetting")) == 4
    result = CliRunner().invoke(main, ["report", str(out)])
    assert result.exit_code == 0, result.output
    assert "mine" in CliRunner().invoke(main, ["status", str(out)]).stdout


# What the first versions wrote into trial.json: a training of no step, its checkpoint among the arguments.
FIRST_WRITTEN = {
    "base": "b", "task": "t.csv", "method": "lora", "learning_rate": 0.0, "seed": 0, "rank": 2, "alpha": 4.0,
    "target_modules": "all-linear", "arguments": {"checkpoint": "mine/adapter", "label": "mine"},
    "head_learning_rate": None, "steps": 0, "epochs": None, "batch_size": 8, "gradient_accumulation": 1,
    "max_length": 32, "schedule": "linear", "warmup": 0.06, "weight_decay": 0.0, "max_grad_norm": 1.0,
    "precision": "float32", "quantisation": None, "gradient_checkpointing": False, "evaluate_every": None,
    "validation_metric": None, "train_examples": None, "validation_examples": None, "test_examples": 9,
}  # fmt: skip


def test_a_folder_of_the_first_versions_is_read_and_its_trial_is_the_same_one() -> None:
    stated = {name: value for name, value in FIRST_WRITTEN.items() if value not in (None, {}, False)}
    id_then = hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()[:12]
    there = {"checkpoint": "mine/adapter", "label": "mine", "method": "lora", "rank": 2, "alpha": 4}
    given = {"base": "b", "task": "t.csv", "checkpoints": [there], "batch_size": 8, "max_length": 32}
    [now] = plan(read_specification({**given, "test_examples": 9}))
    assert kind_from_dict(FIRST_WRITTEN) == now.kind
    assert now.id == id_then


@pytest.mark.parametrize(
    "more",
    [
        {"task": "t.csv", "methods": [{"method": "lora", "rank": 2, "learning_rate": 1e-3}], "steps": 3},
        {"tasks": ["a.csv", {"path": "b.csv", "name": "b"}], "methods": [{"method": "full", "learning_rate": 1e-3}],
         "epochs": 1.5, "merge": False},
        {"task": {"path": "t.csv", "name": "t"}, "checkpoints": ["x/adapter"], "validation_metric": "f1"},
    ],
)  # fmt: skip
def test_every_kind_of_trial_comes_back_from_its_file(more: dict[str, Any]) -> None:
    [trial] = plan(read_specification({"base": "b", **more}))
    written = json.loads(json.dumps(trial.kind.to_dict()))
    back: TrialKind = kind_from_dict(written)
    assert back == trial.kind and planned(back) == trial


def test_they_are_planned_without_being_there(specification: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("base: org/base\ncheckpoints: [org/one, {checkpoint: org/two, rank: 8}]\n")
    result = CliRunner().invoke(main, ["sweep", str(path), "--plan"])
    assert result.exit_code == 0, result.output
    assert "2 trials; all exist already and nothing is trained" in result.stdout


def test_checkpoints_that_do_not_fit_are_refused_before_anything_runs(
    trained: Run, specification: dict[str, Any], tmp_path: Path
) -> None:
    three = [{"text": f"w{n} w{n % 7} w{n % 5}", "label": "abc"[n % 3]} for n in range(90)]
    (tmp_path / "three.jsonl").write_text("".join(json.dumps(row) + "\n" for row in three))
    given = {
        "base": specification["base"],
        "task": str(tmp_path / "three.jsonl"),
        "checkpoints": [*checkpoints(trained)[:1], "./nowhere"],
    }
    with pytest.raises(SpecificationError) as raised:
        run_sweep(given, tmp_path / "run", executor="inline")
    assert "has a head of 2 outputs, and the task 'three' needs 3" in str(raised.value)
    assert "The checkpoint './nowhere' does not exist. Check the path." in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"checkpoints": []}, "methods is empty; add a method to train, or checkpoints that exist already"),
        (
            {"checkpoints": ["a"], "methods": [{"method": "full", "learning_rate": 1e-3}]},
            "methods are trained on a task, and there is none; add task",
        ),
        ({"checkpoints": [{"checkpoint": "a", "rank": 0}]}, "checkpoints.0.rank: input should be greater than 0"),
        ({"checkpoints": [{"path": "a"}]}, "'checkpoints.0.checkpoint' is missing. Add it."),
    ],
)
def test_what_cannot_be_is_said_with_its_place(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecificationError) as raised:
        read_specification({"base": "b", **given})
    assert message in str(raised.value)
