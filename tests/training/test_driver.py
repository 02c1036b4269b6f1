import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from spectra.data import TaskData, load_task
from spectra.errors import RunError, SpecificationError
from spectra.training import driver
from spectra.training.adapt import METHODS
from spectra.training.driver import Trained, TrainingPaused, TrainingStopped, evaluate, last_checkpoint, train
from spectra.training.settings import TrainingSettings
from spectra.training.store import save_trained
from tests import tiny


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.save_model(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> TaskData:
    return load_task(tiny.save_sentiment(tmp_path_factory.mktemp("tasks") / "sentiment.jsonl", 400))


def settings(base: str, method: str = "lora", **changes: Any) -> TrainingSettings:
    own = {} if method == "full" else {"rank": 2, "alpha": 4.0}
    values: dict[str, Any] = {"steps": 12, "batch_size": 4, "max_length": 32, **own, **changes}
    return TrainingSettings(base=base, method=method, learning_rate=1e-2, seed=3, **values)


def stop_after(step: int) -> tuple[Callable[[int, int], None], Callable[[], bool]]:
    reached: list[int] = []
    return (lambda now, of: reached.append(now)), (lambda: bool(reached) and reached[-1] >= step)


def same(one: Trained, other: Trained) -> bool:
    theirs = other.model.state_dict()
    equal = all(torch.equal(value, theirs[name]) for name, value in one.model.state_dict().items())
    return equal and one.validation == other.validation and one.tokens == other.tokens


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_same_seed_gives_the_same_model(method: str, bert: str, task: TaskData, tmp_path: Path) -> None:
    first, second = (train(settings(bert, method), task, tmp_path / name) for name in "ab")
    assert same(first, second)
    assert first.history == second.history


def test_another_seed_gives_another_model(bert: str, task: TaskData, tmp_path: Path) -> None:
    first = train(settings(bert), task, tmp_path / "a")
    assert not same(first, train(replace(settings(bert), seed=4), task, tmp_path / "b"))


PEFT_KINDS = ("LOHA", "IA3", "OFT")
WITHOUT_RULE = [name for name, method in METHODS.items() if method.rule is None]  # the others: prevention/


@pytest.mark.parametrize("method", [*WITHOUT_RULE, *PEFT_KINDS])
def test_a_stopped_training_goes_on_to_the_same_end(method: str, bert: str, task: TaskData, tmp_path: Path) -> None:
    given = of_method(bert, method, steps=6)
    undisturbed = train(given, task, tmp_path / "a")
    resumed, steps = interrupted(given, task, tmp_path / "b", 3)
    assert steps == [4, 5, 6]
    assert same(undisturbed, resumed)
    assert resumed.seconds > 0
    assert resumed.trainable_parameters == undisturbed.trainable_parameters


def test_batches_of_similar_length_go_on_to_the_same_end_in_another_epoch(
    bert: str, task: TaskData, tmp_path: Path
) -> None:
    given = settings(bert, train_examples=14, group_by_length=True, steps=10)  # an epoch is four steps
    undisturbed = train(given, task, tmp_path / "a")
    resumed, _ = interrupted(given, task, tmp_path / "b", 6)
    assert same(undisturbed, resumed)
    assert not same(undisturbed, train(replace(given, group_by_length=False), task, tmp_path / "c"))


def test_a_paused_training_is_the_one_it_would_have_been(bert: str, task: TaskData, tmp_path: Path) -> None:
    given = settings(bert, steps=6)
    undisturbed = train(given, task, tmp_path / "a")
    with pytest.raises(TrainingPaused) as paused:
        train(given, task, tmp_path / "b", pause_at=4)
    with pytest.raises(TrainingPaused) as again:  # a kill came before the score was written elsewhere
        train(given, task, tmp_path / "b", pause_at=4)
    assert 0.0 <= paused.value.score == again.value.score
    assert same(undisturbed, train(given, task, tmp_path / "b"))


def test_a_split_is_cut_into_tokens_once(
    bert: str, task: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[int] = []
    original = driver.encode
    monkeypatch.setattr(driver, "_KNOWN", {})
    monkeypatch.setattr(driver, "encode", lambda rows, *more: cut.append(len(rows)) or original(rows, *more))
    for name, changes in (("a", {}), ("b", {"rank": 4}), ("c", {"max_length": 6}), ("d", {"train_examples": 9})):
        train(settings(bert, steps=1, **changes), task, tmp_path / name)
    whole, held = len(task.train), len(task.validation)
    assert cut == [whole, held, whole, held, 9]


def test_adalora_goes_on_to_the_same_end_from_every_phase(bert: str, task: TaskData, tmp_path: Path) -> None:
    phases = {"tinit": 2, "tfinal": 4, "deltaT": 2}  # prunes at 4, 6 and 8 of 12 steps, then trains what is left
    given = settings(bert, "adalora", arguments=phases)
    undisturbed = train(given, task, tmp_path / "a")
    kept = save_and_read_ranks(undisturbed, tmp_path / "kept")
    assert min(kept) < max(kept)  # ranks did move
    for step in (1, 3, 4, 5, 7, 8, 9, 11):
        resumed, _ = interrupted(given, task, tmp_path / f"b{step}", step)
        assert same(undisturbed, resumed), f"stopped after step {step}"
        assert save_and_read_ranks(resumed, tmp_path / f"kept{step}") == kept


@pytest.mark.parametrize("method", ["full", "lora", "adalora"])
def test_a_training_that_ended_before_it_was_saved_takes_no_further_step(
    method: str, bert: str, task: TaskData, tmp_path: Path
) -> None:
    def killed(model: Any, tokenizer: Any) -> Any:
        raise KeyboardInterrupt

    given = of_method(bert, method, steps=6)
    undisturbed = train(given, task, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        train(given, task, tmp_path / "b", save_seconds=0.0, validate=killed)
    assert last_checkpoint(tmp_path / "b") == str(tmp_path / "b" / "checkpoint-6")
    steps: list[int] = []
    resumed = train(given, task, tmp_path / "b", on_step=lambda step, of: steps.append(step))
    assert steps == []
    assert same(undisturbed, resumed)
    assert resumed.history == undisturbed.history


def of_method(base: str, method: str, **changes: Any) -> TrainingSettings:
    if method in PEFT_KINDS:
        own = {"IA3": {"feedforward_modules": []}, "OFT": {"oft_block_size": 4, "r": 0}}.get(
            method, {"r": 2, "alpha": 4}
        )
        return settings(base, "peft", rank=None, alpha=None, arguments={"peft_type": method, **own}, **changes)
    if method == "peft":
        return settings(base, method, arguments={"peft_type": "LORA"}, **changes)
    return settings(base, method, **({"alpha": None} if method == "vera" else {}), **changes)


def interrupted(given: TrainingSettings, task: TaskData, folder: Path, after: int) -> tuple[Trained, list[int]]:
    """A training that was stopped after a step, and the steps of the second call."""
    on_step, stop = stop_after(after)
    with pytest.raises(TrainingStopped):
        train(given, task, folder, on_step=on_step, stop=stop)
    assert last_checkpoint(folder) == str(folder / f"checkpoint-{after}")
    steps: list[int] = []
    return train(given, task, folder, on_step=lambda step, of: steps.append(step)), steps


def save_and_read_ranks(trained: Trained, folder: Path) -> list[int]:
    save_trained(trained.model, trained.tokenizer, trained.initial, folder)
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        return [file.get_slice(name).get_shape()[0] for name in sorted(file.keys()) if "lora_E" in name]


def test_a_checkpoint_that_was_cut_off_is_passed_over(bert: str, task: TaskData, tmp_path: Path) -> None:
    on_step, stop = stop_after(5)
    with pytest.raises(TrainingStopped):
        train(settings(bert), task, tmp_path, on_step=on_step, stop=stop)
    broken = tmp_path / "checkpoint-9"
    shutil.copytree(tmp_path / "checkpoint-5", broken)
    (broken / "trainer_state.json").write_text('{"global_step": 9, "log_hi')
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-5")
    (broken / "trainer_state.json").unlink()
    assert last_checkpoint(tmp_path) == str(tmp_path / "checkpoint-5")


def test_checkpoints_are_written_by_the_clock(bert: str, task: TaskData, tmp_path: Path) -> None:
    train(settings(bert), task, tmp_path, save_seconds=0.0)
    state = json.loads((tmp_path / "checkpoint-12" / "trainer_state.json").read_text())
    assert state["global_step"] == 12
    assert state["stateful_callbacks"]["StepClock"]["attributes"]["seconds"] > 0
    assert len(list(tmp_path.glob("checkpoint-*"))) == 1


@pytest.mark.parametrize("group_by_length", [False, True])
def test_all_methods_of_a_seed_see_the_same_head_and_the_same_batches(
    group_by_length: bool, bert: str, task: TaskData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads, batches = [], []
    original = driver.PairedTrainer.training_step

    def spy(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 0 and len(heads) == len(batches):
            names = [name for name, _ in model.named_parameters() if "classifier" in name and "original" not in name]
            heads.append([model.get_parameter(name).detach().clone() for name in names])
        if self.state.global_step == 0:
            batches.append(inputs["input_ids"].clone())
        return original(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(driver.PairedTrainer, "training_step", spy)
    for method in ("full", "lora", "dora", "pissa"):
        train(settings(bert, method, steps=1, group_by_length=group_by_length), task, tmp_path / method)
    assert len(heads) == len(batches) == 4
    for head, batch in zip(heads[1:], batches[1:], strict=True):
        assert torch.equal(batch, batches[0])
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(head, heads[0], strict=True))


@pytest.mark.parametrize(
    ("family", "save"),
    [
        ("llama", tiny.save_prose),
        ("llama", tiny.save_answers),
        ("gpt2", tiny.save_prose),
        ("bloom", tiny.save_prose),
        ("bloom", tiny.save_sentiment),
        ("t5", tiny.save_answers),
    ],
)
def test_every_family_learns(family: str, save: Callable[[Path], str], tmp_path: Path) -> None:
    base = tiny.save_model(tmp_path / family, family)
    data = load_task(save(tmp_path / "task.jsonl"))
    given = settings(base, max_length=16, steps=30, batch_size=8)
    trained = train(given, data, tmp_path / "training")
    losses = [row["loss"] for row in trained.history if "loss" in row]
    assert sum(losses[-3:]) < sum(losses[:3])
    assert trained.steps == 30
    assert trained.tokens > 30 * 8


def test_the_history_ends_with_the_validation_score(bert: str, task: TaskData, tmp_path: Path) -> None:
    trained = train(settings(bert, evaluate_every=5), task, tmp_path)
    by_step = {row["step"]: row for row in trained.history}
    assert set(by_step) == set(range(1, 13))
    assert [step for step, row in by_step.items() if "validation_score" in row] == [5, 10, 12]
    assert by_step[12]["validation_score"] == trained.validation.score
    again = evaluate(trained.model, trained.tokenizer, task, "validation", settings(bert))
    assert again == trained.validation


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_training_says_what_it_took(method: str, bert: str, task: TaskData, tmp_path: Path) -> None:
    trained = train(settings(bert, method, steps=2), task, tmp_path)
    tuned = [parameter for parameter in trained.model.parameters() if parameter.requires_grad]
    assert trained.trainable_parameters == sum(parameter.numel() for parameter in tuned)
    # AdamW: two float32 numbers per trained one, and a float32 counter of steps per tensor
    assert trained.optimiser_bytes == sum(8 * parameter.numel() + 4 for parameter in tuned)
    assert trained.peak_memory_bytes > 4 * sum(parameter.numel() for parameter in trained.model.parameters())
    assert trained.seconds > 0
    assert 2 * 4 * 3 < trained.tokens <= 2 * 4 * 32  # of two batches of four texts, padding aside


def test_epochs_decide_the_steps_when_they_are_given(bert: str, task: TaskData, tmp_path: Path) -> None:
    trained = train(settings(bert, steps=None, epochs=0.5, train_examples=32), task, tmp_path)
    assert trained.steps == 4


def test_a_lost_loss_stops_the_training(bert: str, task: TaskData, tmp_path: Path) -> None:
    wild = replace(settings(bert, "full"), learning_rate=1e30, max_grad_norm=1e30)
    with pytest.raises(RunError, match=r"The training loss is (nan|inf) at step \d+\. Lower the learning rate"):
        train(wild, task, tmp_path)


def test_a_training_has_steps_or_epochs() -> None:
    with pytest.raises(SpecificationError, match="steps is 3 and epochs is 1"):
        TrainingSettings("base", "full", 1e-3, 0, steps=3, epochs=1.0)
