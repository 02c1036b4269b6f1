import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from spectra import plan_sweep, run_sweep
from spectra.data import load_task
from spectra.errors import DataError, ModelError, RunError, SpectraError, SpectrumError
from spectra.training.driver import train
from spectra.training.prevention.batches import MixedBatches
from spectra.training.prevention.replay import Replay
from spectra.training.settings import TrainingSettings
from tests import tiny
from tests.training.prevention.training import model_of, save_base, trainer_of


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_base(tmp_path_factory.mktemp("base"))


BLOCKS = [{"input_ids": [1000 + number], "attention_mask": [1], "labels": [1000 + number]} for number in range(50)]


def batches(count: int, size: int) -> list[list[dict[str, Any]]]:
    return [[{"input_ids": [row, number], "labels": [row]} for number in range(size)] for row in range(count)]


@pytest.mark.parametrize(("share", "size"), [(0.25, 16), (0.3, 8), (0.25, 1), (0.9, 3)])
def test_the_share_of_replayed_examples_is_the_one_asked_for(share: float, size: int) -> None:
    mixed = [MixedBatches(list, share, 0, BLOCKS)(batch) for batch in batches(400, size)]
    assert all(len(batch) == size for batch in mixed)
    replayed = [sum(example["input_ids"][0] >= 1000 for example in batch) for batch in mixed]
    assert max(replayed) - min(replayed) <= 1  # a whole number of examples, or the next one
    standard_error = (0.25 / 400) ** 0.5 / size
    assert sum(replayed) / (400 * size) == pytest.approx(share, abs=4 * standard_error)
    assert all(set(example) == {"input_ids", "labels"} for batch in mixed for example in batch)


def test_a_batch_is_mixed_alike_whenever_it_comes_and_unlike_by_another_seed() -> None:
    several = batches(20, 8)
    one, again, other = (
        [MixedBatches(list, 0.5, seed, BLOCKS)(batch) for batch in order]
        for seed, order in ((0, several), (0, several[::-1]), (1, several))
    )
    assert one == again[::-1] and one != other


def test_training_batches_are_mixed_and_validation_batches_are_not(llama: str, tmp_path: Path) -> None:
    """The replayed text has words that the task has not."""
    replayed = tmp_path / "replayed.jsonl"
    replayed.write_text("".join(json.dumps({"text": f"good lovely {word} good"}) + "\n" for word in tiny.GOOD * 12))
    rows = [{"input_ids": [20] * 6, "labels": [20] * 6} for _ in range(64)]
    trainer = trainer_of(model_of(llama), tmp_path / "out", rows, eval_strategy="steps", eval_steps=4, max_steps=8)
    Replay(str(replayed), 0.5, max_length=6).attach(trainer)
    seen: dict[bool, list[torch.Tensor]] = {True: [], False: []}
    original = type(trainer).compute_loss

    def spy(model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        seen[model.training].append(inputs["input_ids"].cpu())
        return original(trainer, model, inputs, *args, **kwargs)

    trainer.compute_loss = spy
    trainer.train()
    assert len(seen[True]) == 8 and len(seen[False]) >= 2
    assert all(int((batch != 20).any(1).sum()) == 4 for batch in seen[True])
    assert all(bool((batch == 20).all()) for batch in seen[False])


def test_replayed_text_is_learnt(llama: str, tmp_path: Path) -> None:
    """A text that no task row resembles is predicted better with its kin in the batches than without."""
    text = " ".join(tiny.OTHER[:12])
    (tmp_path / "replayed.jsonl").write_text("".join(json.dumps({"text": f"{text} w{n}"}) + "\n" for n in range(30)))
    task = load_task(tiny.save_prose(tmp_path / "task.jsonl"))
    losses = {}
    for method, arguments in (("lora", {}), ("replay", {"task": str(tmp_path / "replayed.jsonl"), "share": 0.5})):
        given = TrainingSettings(
            llama, method, 2e-2, 0, rank=4, alpha=8.0, steps=40, batch_size=4, max_length=24, arguments=arguments
        )
        trained = train(given, task, tmp_path / method)
        ids = trained.tokenizer(text, return_tensors="pt")["input_ids"].to(trained.model.device)
        losses[method] = float(trained.model.eval()(input_ids=ids, labels=ids).loss)
    assert losses["replay"] < losses["lora"] - 1


def specification(base: str, task: str, replayed: Any, heldout: list[str], method: str = "replay") -> dict[str, Any]:
    entry = {"method": method, "rank": 2, "learning_rate": 1e-2, "arguments": {"task": replayed}}
    return {
        "base": base, "task": task, "heldout": heldout, "methods": [entry], "steps": 2, "batch_size": 4,
        "max_length": 24, "trajectory": 0, "controls": False,
    }  # fmt: skip


def test_a_task_that_is_measured_is_not_replayed(llama: str, tmp_path: Path) -> None:
    task, other, third = (tiny.save_prose(tmp_path / f"{seed}.jsonl", seed=seed) for seed in range(3))
    splits = {"name": "mine", "path": other, "validation": task, "test": third}
    with pytest.raises(SpectraError, match=r"Task 'mine' is replayed, and held-out task 'mine.* measures .* elsewhere"):
        plan_sweep({**specification(llama, task, splits, []), "heldout": [{"task": splits}]})
    measured = [str(row["text"]) for row in load_task(other).train]
    sneaked = Path(third)
    sneaked.write_text(sneaked.read_text() + "".join(json.dumps({"text": text}) + "\n" for text in measured))
    with pytest.raises(
        SpectraError, match=r"\d+ texts of held-out task '1.*' are among the replayed texts of task '2'"
    ):
        plan_sweep(specification(llama, task, third, [other]))
    bert = tiny.save_model(tmp_path / "bert", "bert")
    with pytest.raises(SpectraError, match=r"mixes plain text .*is trained as classification\. Leave the method out"):
        plan_sweep(specification(bert, tiny.save_sentiment(tmp_path / "s.jsonl"), third, []))
    with pytest.raises(DataError, match="has sources and targets, and plain text is replayed"):
        plan_sweep(specification(llama, task, tiny.save_answers(tmp_path / "a.jsonl"), []))


def test_a_sweep_records_the_replayed_text_and_refuses_another_one(llama: str, tmp_path: Path) -> None:
    task, other = (tiny.save_prose(tmp_path / f"{seed}.jsonl", seed=seed) for seed in range(2))
    given = specification(llama, task, other, [])
    run = run_sweep(given, tmp_path / "run", executor="inline")
    assert run.inputs["replayed"] == {"1": load_task(other).fingerprint}
    assert run.table("trials")["label"].tolist()[0].startswith("Replay r=2 α=4 task=")
    tiny.save_prose(Path(other), seed=5)
    with pytest.raises(RunError, match=r"begun with other contents: replayed task '1' changed since"):
        run_sweep({**given, "seeds": "0..1"}, tmp_path / "run", executor="inline")


def test_what_cannot_be_replayed_is_refused(llama: str, tmp_path: Path) -> None:
    with pytest.raises(SpectrumError, match=re.escape("share is 1. Give a number below 1")):
        Replay(["a text"], 1)
    with pytest.raises(DataError, match="no text to replay"):
        Replay([])
    trainer = trainer_of(model_of(llama), tmp_path)
    trainer.processing_class = None
    with pytest.raises(ModelError, match="no tokenizer to cut the replayed texts with"):
        Replay(["a text"]).attach(trainer)
