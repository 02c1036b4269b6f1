"""No figure that belongs to something else: what differs is refused, or kept apart and named apart."""

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from spectra.errors import DataError, RunError
from spectra.records.naming import told_apart
from spectra.runs import Run
from spectra.sweep import Event, Specification, plan, read_specification, run_sweep
from spectra.sweep.spec.plan import labelled
from spectra.sweep.spec.specification import SHARED, MethodSpecification
from tests import tiny

MINIMAL: dict[str, Any] = {
    "base": "tiny",
    "task": "task.jsonl",
    "methods": [{"method": "lora", "rank": 8, "alpha": 8, "learning_rate": 1e-3}],
    "steps": 10,
}
# Another value of every field. One that is missing here makes the test below fail.
REACH_NO_FIGURE: dict[str, Any] = {"title": "another", "keep": "all", "report_to": ["tensorboard"]}
ADD_TRIALS: dict[str, Any] = {
    "methods": [{"method": "lora", "rank": 4, "alpha": 8, "learning_rate": 1e-3}],
    "checkpoints": ["some/adapter"],
    "seeds": [1],
    "launch": {"accelerate": "accelerate.yaml"},  # of which only what reaches a figure is hashed: see test_launch
}
REACH_A_FIGURE: dict[str, Any] = {
    "base": "other", "task": "other.jsonl", "tasks": ["a.jsonl", "b.jsonl"], "merge": False, "steps": 20, "epochs": 2.0,
    "batch_size": 8, "gradient_accumulation": 2, "max_length": 64, "schedule": "cosine", "warmup": 0.1,
    "weight_decay": 0.1, "max_grad_norm": 2.0, "head_learning_rate": 1e-2, "precision": "bfloat16",
    "quantisation": "nf4", "base_dtype": "bfloat16", "optimiser": "adafactor", "attention": "eager",
    "gradient_checkpointing": True, "evaluate_every": 5, "validation_metric": "rouge-l",
    "train_examples": 9, "validation_examples": 9, "test_examples": 9, "k": 4, "epsilon": 0.3, "controls": False,
    "group_by_length": True, "early_stopping": [5], "trajectory": 3, "keep_steps": [3], "store_dtype": "bfloat16",
}  # fmt: skip


def begun(folder: Path, values: dict[str, Any]) -> Run:
    specification = read_specification(values)
    sweep = {
        "specification": specification.model_dump(mode="json"),
        "trials": [one.described() for one in plan(specification)],
    }
    return Run.create(folder, sweep, same=SHARED)


def with_field(field: str, value: Any) -> dict[str, Any]:
    values = {**MINIMAL, field: value}
    if field in ("tasks", "merge"):
        values |= {"task": None, "tasks": ["a.jsonl", "b.jsonl"]}
    if field == "base_dtype":
        values["precision"] = "bfloat16"
    return values | ({"steps": None} if field == "epochs" else {})


def test_every_field_of_a_specification_is_looked_at() -> None:
    known = {*REACH_NO_FIGURE, *ADD_TRIALS, *REACH_A_FIGURE, "heldout"}
    assert known == set(Specification.model_fields)


@pytest.mark.parametrize("field", REACH_A_FIGURE)
def test_a_folder_refuses_a_sweep_that_differs_in_what_all_rows_share(field: str, tmp_path: Path) -> None:
    begun(tmp_path / "run", MINIMAL if field != "merge" else with_field("tasks", ["a.jsonl", "b.jsonl"]))
    with pytest.raises(RunError, match=r"belongs to another sweep: its \w+ is .*, not .*\. Choose another --out\."):
        begun(tmp_path / "run", with_field(field, REACH_A_FIGURE[field]))


@pytest.mark.parametrize("field", REACH_NO_FIGURE)
def test_what_reaches_no_figure_may_change(field: str, tmp_path: Path) -> None:
    begun(tmp_path / "run", MINIMAL)
    begun(tmp_path / "run", with_field(field, REACH_NO_FIGURE[field]))


@pytest.mark.parametrize("field", ["group_by_length", "k", "store_dtype"])
def test_a_folder_of_a_version_that_did_not_know_a_field_goes_on_with_its_default(field: str, tmp_path: Path) -> None:
    begun(tmp_path / "run", MINIMAL)
    file = tmp_path / "run" / "sweep.json"
    record = json.loads(file.read_text())
    del record["specification"][field]
    file.write_text(json.dumps(record))
    begun(tmp_path / "run", MINIMAL)
    with pytest.raises(RunError, match=rf"belongs to another sweep: its {field} is"):
        begun(tmp_path / "run", with_field(field, REACH_A_FIGURE[field]))


LORA: dict[str, Any] = {"method": "lora", "rank": 8, "alpha": 8, "learning_rate": 1e-3}
OTHER_METHODS: dict[str, dict[str, Any]] = {
    "method": {**LORA, "method": "rslora"},
    "rank": {**LORA, "rank": 4},
    "alpha": {**LORA, "alpha": 4},
    "target_modules": {**LORA, "target_modules": "qv"},
    "arguments": {**LORA, "arguments": {"lora_dropout": 0.1}},
}


def test_every_field_of_a_method_is_looked_at() -> None:
    assert {*OTHER_METHODS, "learning_rate", "launch"} == set(MethodSpecification.model_fields)


@pytest.mark.parametrize("field", OTHER_METHODS)
def test_configurations_that_differ_have_trials_and_names_of_their_own(field: str) -> None:
    one, other = (plan(read_specification({**MINIMAL, "methods": [method]})) for method in (LORA, OTHER_METHODS[field]))
    assert not {trial.id for trial in one} & {trial.id for trial in other}
    assert len({trial.label for trial in labelled([*one, *other])}) == 2


@pytest.mark.parametrize(
    ("arguments", "labels"),
    [
        ([{"ratio": 1}, {"ratio": 32}], ["LoRA+ r=8 α=8 ratio=1", "LoRA+ r=8 α=8 ratio=32"]),
        ([{}, {"ratio": 32}], ["LoRA+ r=8 α=8", "LoRA+ r=8 α=8 ratio=32"]),
        ([{"rank_pattern": {f"l{n}": n for n in range(9)}}, {"rank_pattern": {f"l{n}": 1 for n in range(9)}}], None),
    ],
)
def test_configurations_that_differ_in_arguments_alone_are_named_apart(
    arguments: list[dict[str, Any]], labels: list[str] | None
) -> None:
    methods = [{**LORA, "method": "lora+", "arguments": one} for one in arguments]
    found = [trial.label for trial in plan(read_specification({**MINIMAL, "methods": methods}))]
    assert len(set(found)) == 2
    assert labels is None or found == labels
    assert max(map(len, found)) < 60


def test_trials_of_different_lengths_are_named_apart_and_are_no_pair() -> None:
    trials = [*plan(read_specification(MINIMAL)), *plan(read_specification({**MINIMAL, "steps": 20}))]
    assert [trial.label for trial in labelled(trials)] == ["LoRA r=8 α=8 (steps 10)", "LoRA r=8 α=8 (steps 20)"]


def test_checkpoints_in_folders_of_one_name_are_named_apart() -> None:
    given = {"base": "tiny", "checkpoints": ["x/one/adapter", "x/two/adapter", "x/other"]}
    labels = [trial.label for trial in plan(read_specification(given))]
    assert labels == ["adapter (one/adapter)", "adapter (two/adapter)", "other"]


def test_names_are_never_shared() -> None:
    facts = {"a": {"path": "p/x", "n": 1}, "b": {"path": "q/x", "n": 1}, "c": {"path": "q/x", "n": 1}}
    told = told_apart(dict.fromkeys(facts, "x"), facts)
    assert told == {"a": "x (p/x)", "b": "x (q/x)", "c": "x (q/x) #2"}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A specification whose files are its own, with two held-out files of one name and an adapter."""
    folder = tmp_path_factory.mktemp("inputs")
    for name, seed in (("a", 5), ("b", 6)):
        (folder / name).mkdir()
        tiny.save_sentiment(folder / name / "held.jsonl", 60, seed=seed)
    return {
        "base": tiny.save_model(folder / "bert", "bert"),
        "task": tiny.save_sentiment(folder / "task.jsonl", 120),
        "heldout": [{"task": str(folder / "a" / "held.jsonl"), "max_length": 16}],
        "methods": [
            {"method": "full", "learning_rate": 1e-2},
            {"method": "lora", "rank": 2, "learning_rate": 3e-2},
        ],
        "steps": 3,
        "batch_size": 4,
        "max_length": 16,
        "controls": False,
        "trajectory": 0,
    }


@pytest.fixture(scope="module")
def run(inputs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_sweep(inputs, tmp_path_factory.mktemp("runs") / "run", executor="inline")


def change_base(inputs: dict[str, Any]) -> Path:
    file = Path(inputs["base"]) / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("query.weight"))
    save_file({**tensors, name: tensors[name] + torch.eye(16)}, file, {"format": "pt"})
    return file


def change_tokenizer(inputs: dict[str, Any]) -> Path:
    file = Path(inputs["base"]) / "tokenizer.json"
    file.write_text(file.read_text().replace('"good"', '"goood"'))
    return file


def change_task(inputs: dict[str, Any]) -> Path:
    return Path(tiny.save_sentiment(Path(inputs["task"]), 121))


def change_held_out(inputs: dict[str, Any]) -> Path:
    return Path(tiny.save_sentiment(Path(inputs["heldout"][0]["task"]), 61, seed=5))


@pytest.mark.parametrize("change", [change_base, change_tokenizer, change_task, change_held_out])
def test_a_folder_refuses_inputs_of_other_content(
    change: Callable[[dict[str, Any]], Path], inputs: dict[str, Any], run: Run, tmp_path: Path
) -> None:
    kept = {path: path.read_bytes() for path in Path(inputs["base"]).parent.rglob("*") if path.is_file()}
    changed = change(inputs)
    try:
        with pytest.raises(RunError, match=r"was begun with other contents: .* changed since\. Restore what it was"):
            run_sweep(inputs, run.path, axes=["rank=1,2"], executor="inline")
    finally:
        changed.write_bytes(kept[changed])
    assert len(run.trials()) == 2


def test_a_checkpoint_that_was_trained_on_is_another(run: Run, inputs: dict[str, Any], tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(next(folder.adapter for folder in run.trials() if folder.adapter.exists()), adapter)
    given = {"base": inputs["base"], "checkpoints": [str(adapter)], "heldout": inputs["heldout"]}
    run_sweep(given, tmp_path / "run", executor="inline")
    file = adapter / "adapter_model.safetensors"
    save_file({name: 2 * value for name, value in load_file(file).items()}, file)
    with pytest.raises(RunError, match=r"checkpoint '.*adapter' changed since"):
        run_sweep(given, tmp_path / "run", executor="inline")


def test_a_base_that_changes_while_the_sweep_runs_is_noticed(inputs: dict[str, Any], tmp_path: Path) -> None:
    given = copy.deepcopy(inputs)
    given["base"] = str(shutil.copytree(inputs["base"], tmp_path / "bert"))

    def change(event: Event) -> None:
        if event.what == "done" and event.job.kind == "trial" and event.job.trial.label == "full":
            change_base(given)

    table = run_sweep(given, tmp_path / "run", executor="inline", on_event=change).table("trials").set_index("method")
    assert table["status"].to_dict() == {"full": "done", "lora": "failed"}
    assert "The content of base" in table.loc["lora", "error"]


def test_a_held_out_task_that_is_added_is_the_only_one_measured(run: Run, inputs: dict[str, Any]) -> None:
    before = {name: run.table(name) for name in ("forgetting", "matrices", "vectors")}
    first = inputs["heldout"][0]
    second = {**first, "task": first["task"].replace("/a/", "/b/")}
    more = {**inputs, "heldout": [second, first]}
    events: list[Event] = []
    table = run_sweep(more, run.path, executor="inline", on_event=events.append).table("forgetting")
    assert {event.stage for event in events if event.job.kind == "trial"} - {""} == {"training", "measuring"}
    names = ["held:linear-probe", "held:linear-probe (b/held.jsonl)"]
    assert table.groupby("trial", sort=False)["heldout"].apply(list).tolist() == [names, names]
    old = table[table["heldout"] == names[0]].reset_index(drop=True)
    pd.testing.assert_frame_equal(old, before["forgetting"])
    for name in ("matrices", "vectors"):
        pd.testing.assert_frame_equal(run.table(name), before[name])
    alone = run_sweep({**inputs, "heldout": [second]}, run.path.with_name("alone"), executor="inline")
    expected = alone.table("forgetting").drop(columns="heldout")
    new = table[table["heldout"] == names[1]].reset_index(drop=True).drop(columns="heldout")
    pd.testing.assert_frame_equal(new, expected)
    scores = [folder.scores() for folder in run.trials()]
    assert all(one is not None and one.groupby("heldout").ngroups == 2 for one in scores)
    events.clear()
    run_sweep(more, run.path, executor="inline", on_event=events.append)
    assert events == []
    with pytest.raises(RunError, match=r"measures the held-out task held:linear-probe, which this call leaves out"):
        run_sweep({**inputs, "heldout": [second]}, run.path, executor="inline")


def test_a_held_out_task_is_named_once(inputs: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"held:linear-probe is named twice with the same settings\. Name it once\."):
        run_sweep({**inputs, "heldout": inputs["heldout"] * 2}, tmp_path / "run", executor="inline")
