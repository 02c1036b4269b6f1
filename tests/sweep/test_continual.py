"""Two tasks learnt one after the other by a tiny model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from spectra import intruders
from spectra.data import load_task
from spectra.errors import SpecificationError
from spectra.models import load_base, load_tuned
from spectra.runs import Run, TrialFolder
from spectra.sweep import Event, read_specification, run_sweep
from spectra.training.driver import evaluate
from tests import tiny

METHODS = [
    {"method": "full", "learning_rate": 1e-2},
    {"method": "lora", "rank": 2, "learning_rate": 3e-2},
]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("inputs")
    return {
        "base": tiny.save_model(folder / "bert", "bert"),
        "tasks": [tiny.save_sentiment(folder / f"{name}.jsonl", 200, seed) for seed, name in enumerate(("one", "two"))],
        "heldout": [{"task": tiny.save_sentiment(folder / "heldout.jsonl", 120, seed=5), "max_length": 16}],
        "methods": METHODS,
        "steps": 6,
        "batch_size": 4,
        "max_length": 16,
        "keep": "all",
    }


@pytest.fixture(scope="module", params=[None, False], ids=["merged", "kept apart"])
def run(request: pytest.FixtureRequest, given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    merge = {} if request.param is None else {"merge": request.param}
    run = run_sweep({**given, **merge}, tmp_path_factory.mktemp("runs") / "run", executor="inline")
    assert (run.table("trials")["error"] == "").all()
    return run


def merges(run: Run) -> bool:
    return run.specification["merge"] is not False


def trials(run: Run) -> dict[str, TrialFolder]:
    return {str(row["method"]): run.trial(str(row["trial"])) for _, row in run.table("trials").iterrows()}


def states(run: Run, trial: TrialFolder) -> list[str]:
    return [str(run.specification["base"]), str(trial.step(1).merged), str(trial.checkpoint)]


def body(folder: str) -> dict[str, Tensor]:
    """Weights of the blocks and the embeddings, under the names of the body."""
    weights = load_file(Path(folder) / "model.safetensors")
    named = {name.removeprefix("bert."): tensor.double() for name, tensor in weights.items()}
    return {name: tensor for name, tensor in named.items() if not name.startswith(("classifier", "pooler"))}


def update(start: str, weights: Path) -> dict[str, Tensor]:
    """delta_W of every weight, as scaling * B @ A or as a difference, straight from the files."""
    before = body(start)
    if not (weights / "adapter_config.json").exists():
        return {name: tensor - before[name] for name, tensor in body(str(weights)).items()}
    factors = load_file(weights / "adapter_model.safetensors")
    change = {name: torch.zeros_like(tensor) for name, tensor in before.items()}
    for name, A in factors.items():
        if name.endswith(".lora_A.weight"):
            B = factors[name.replace("lora_A", "lora_B")]
            target = name.removeprefix("base_model.model.bert.").replace(".lora_A.weight", ".weight")
            change[target] = 2.0 * B.double() @ A.double()  # alpha = 2r
    return change


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_weights_after_two_tasks_are_the_base_and_the_sum_of_the_updates(run: Run, method: str) -> None:
    trial = trials(run)[method]
    base, first, last = states(run, trial)
    starts = (base, first if merges(run) else base)
    updates = [update(start, trial.step(number).weights) for number, start in zip((1, 2), starts, strict=True)]
    for name, tensor in body(last).items():
        expected = body(base)[name] + updates[0][name] + updates[1][name]
        assert torch.allclose(tensor, expected, atol=1e-5), name
        assert torch.allclose(body(first)[name], body(base)[name] + updates[0][name], atol=1e-5), name
    assert any(change.abs().max() > 1e-3 for change in updates[1].values())


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_counts_are_those_of_independent_scans(run: Run, method: str) -> None:
    trial = trials(run)[method]
    folders = states(run, trial)
    rows = run.table("continual").query("trial == @trial.id").drop_duplicates("step").set_index("step")
    for step in (1, 2):
        for name, reference in (("base", folders[0]), ("previous", folders[step - 1])):
            scan = intruders(folders[step], reference, method="exact")
            assert rows.loc[step, f"count_{name}"] == scan.count
    table = run.table("trials").set_index("trial")
    assert table.loc[trial.id, "count"] == rows.loc[2, "count_base"]
    assert table.loc[trial.id, "update_frobenius"] == pytest.approx(rows.loc[2, "update_base"], rel=1e-5)


def test_every_task_so_far_is_measured_after_each(run: Run, given: dict[str, Any]) -> None:
    table = run.table("continual")
    assert len(table) == 2 * 3
    for trial in trials(run).values():
        rows = table[table["trial"] == trial.id]
        assert rows[["step", "task_step"]].to_numpy().tolist() == [[1, 1], [2, 1], [2, 2]]
        assert rows["task"].tolist() == [load_task(given["tasks"][position]).name for position in (0, 0, 1)]
        scores = rows["score"].tolist()
        assert rows["lost"].tolist() == pytest.approx([0.0, scores[0] - scores[1], 0.0])
        for row, step in ((0, 1), (2, 2)):
            metrics = trial.step(step).metrics
            assert metrics is not None
            if step == 1 or merges(run):  # right after a task was learnt, its model is the one that training left
                assert scores[row] == pytest.approx(metrics["validation_score"])


def test_the_last_score_of_the_first_task_is_that_of_its_head_on_the_last_body(run: Run, given: dict[str, Any]) -> None:
    trial = trials(run)["full"]
    task = load_task(given["tasks"][0])
    loaded = load_base(str(trial.checkpoint), "classification", num_labels=2)
    first = load_tuned(trial.step(1).weights, base=given["base"], kind="classification").model.state_dict()
    head = {name: tensor for name, tensor in first.items() if "classifier" in name or "pooler" in name}
    assert not loaded.model.load_state_dict(head, strict=False).unexpected_keys
    expected = evaluate(loaded.model, loaded.tokenizer, task, "validation", read_specification(given)).score
    rows = run.table("continual").query("trial == @trial.id and step == 2 and task_step == 1")
    assert rows["score"].tolist() == pytest.approx([expected])


def test_the_rest_of_the_sweep_speaks_of_the_whole_sequence(run: Run) -> None:
    table = run.table("trials")
    assert (table["steps"] == 12).all()
    assert table["task_score"].notna().all()
    for trial in trials(run).values():
        learnt = [trial.step(step).metrics["validation_score"] for step in (1, 2)]  # type: ignore[index]
        row = table.set_index("trial").loc[trial.id]
        assert row["validation_score"] == pytest.approx(sum(learnt) / 2)
    history = run.table("history")
    assert history.groupby("trial")["step"].max().tolist() == [12, 12]
    assert len(run.table("forgetting")) == 2


def test_an_interrupted_sequence_goes_on_with_the_task_it_was_at(given: dict[str, Any], tmp_path: Path) -> None:
    one = {**given, "methods": METHODS[1:], "heldout": [], "keep": "none"}
    expected = run_sweep(one, tmp_path / "whole", executor="inline").table("continual")

    def stop(event: Event) -> None:
        trained.append(event.stage) if event.stage == "training" and event.what == "started" else None
        if len(trained) == 2 and event.what == "step" and event.step == 3:
            raise KeyboardInterrupt

    trained: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        run_sweep(one, tmp_path / "run", executor="inline", on_event=stop)
    run = Run.open(tmp_path / "run")
    (folder,) = run.trials()
    assert folder.step(1).is_finished
    assert not folder.step(2).is_finished
    events: list[Event] = []
    run = run_sweep(one, tmp_path / "run", executor="inline", on_event=events.append)
    assert sum(event.stage == "training" and event.what == "started" for event in events) == 1
    assert run.table("continual").drop(columns="trial").equals(expected.drop(columns="trial"))
    assert not list(run.path.rglob("*.safetensors")) or {path.name for path in run.path.rglob("*.safetensors")} == {
        "head.safetensors"
    }


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_language_models_learn_sequences_too(family: str, tmp_path: Path) -> None:
    given = {
        "base": tiny.save_model(tmp_path / family, family),
        "tasks": [tiny.save_answers(tmp_path / f"{name}.jsonl", 60, seed) for seed, name in enumerate("ab")],
        "methods": METHODS[1:],
        "steps": 3,
        "batch_size": 4,
        "max_length": 16,
    }
    run = run_sweep(given, tmp_path / "run", executor="inline")
    assert run.table("trials")["error"].tolist() == [""]
    assert len(run.table("continual")) == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tasks": ["one"]}, "tasks: list should have at least 2 items"),
        ({"task": "one"}, "tasks are learnt one after the other, and nothing else is; remove task and checkpoints"),
        ({"tasks": None, "task": "one", "merge": False}, "merge says how a sequence of tasks goes on"),
    ],
)
def test_what_cannot_be_is_said(given: dict[str, Any], changed: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecificationError, match=message):
        read_specification({**given, **changed})
