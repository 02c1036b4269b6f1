"""The task score of an intervention is that of the training, kept per example."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from spectra.data import TaskData, load_task
from spectra.errors import AdapterError, ModelError
from spectra.interventions.own_task import OwnTask, has_base_score, measure_own_task, on_validation
from spectra.models import LoadedModel, load_base, load_tuned
from spectra.training.driver import evaluate
from spectra.training.settings import TrainingSettings
from tests import tiny


def task_for(family: str, folder: Path) -> TaskData:
    save = {"bert": tiny.save_sentiment, "llama": tiny.save_prose, "gpt2": tiny.save_answers, "t5": tiny.save_answers}
    return load_task(save[family](folder / "task.jsonl"))


def loaded(family: str, folder: Path) -> tuple[LoadedModel, str]:
    reference = tiny.save_model(folder / "model", family)
    kind = {"bert": "classification", "llama": "causal-lm", "gpt2": "causal-lm", "t5": "seq2seq"}[family]
    model = load_base(reference, kind, num_labels=2 if family == "bert" else None)  # type: ignore[arg-type]
    return replace(model, random_head=()), reference  # as if its head had been trained


@pytest.mark.parametrize("family", ["bert", "llama", "gpt2", "t5"])
def test_the_score_is_that_of_the_training(family: str, tmp_path: Path) -> None:
    task, (model, reference) = task_for(family, tmp_path), loaded(family, tmp_path)
    settings = TrainingSettings(
        base=reference, method="full", learning_rate=1e-3, seed=0, steps=1, max_length=16, batch_size=4
    )
    told = evaluate(model.model, model.tokenizer, task, "test", settings)
    scores = measure_own_task(model, OwnTask(task, max_length=16), base=reference, batch_size=5)
    assert scores.score == pytest.approx(told.score, abs=1e-5)
    assert (scores.score_name, len(scores.values)) == (told.metric, told.examples)
    assert scores.loss == pytest.approx(1 - told.score if family == "bert" else -told.score, abs=1e-5)
    if family in ("llama", "gpt2"):  # blocks of tokens, answers with their end
        assert scores.weights.min() > 1


def test_a_limit_takes_the_front_and_validation_is_another_split(tmp_path: Path) -> None:
    task, (model, reference) = task_for("bert", tmp_path), loaded("bert", tmp_path)
    whole = OwnTask(task, max_length=16)
    all_scores, few = (
        measure_own_task(model, one, base=reference) for one in (whole, OwnTask(task, limit=7, max_length=16))
    )
    np.testing.assert_array_equal(few.values, all_scores.values[:7])
    other = on_validation(whole)
    assert other.name == "task (validation)"
    assert measure_own_task(model, other, base=reference).fingerprint != all_scores.fingerprint


def test_a_head_that_the_base_does_not_have_has_no_base_score(tmp_path: Path) -> None:
    assert not has_base_score(OwnTask(task_for("bert", tmp_path)))
    assert has_base_score(OwnTask(task_for("llama", tmp_path)))


def test_a_checkpoint_that_was_saved_without_its_head_has_no_score(tmp_path: Path) -> None:
    task, (_, reference) = task_for("bert", tmp_path), loaded("bert", tmp_path)
    model = load_base(reference, "classification", num_labels=2).model
    model.save_pretrained(tmp_path / "full")
    get_peft_model(model, LoraConfig(target_modules=["query"], task_type="SEQ_CLS")).save_pretrained(
        tmp_path / "adapter"
    )
    whole = load_tuned(tmp_path / "full", base=reference)
    assert measure_own_task(whole, OwnTask(task, max_length=16), base=reference).score >= 0
    load_tuned(tmp_path / "adapter", base=reference)
    for file in (tmp_path / "full" / "model.safetensors", tmp_path / "adapter" / "adapter_model.safetensors"):
        kept = {name: tensor for name, tensor in load_file(file).items() if "classifier" not in name}
        save_file(kept, file, {"format": "pt"})
    headless = load_tuned(tmp_path / "full", base=reference)
    with pytest.raises(
        ModelError, match=r"was saved without its head: classifier.bias, classifier.weight are in no fi"
    ):
        measure_own_task(headless, OwnTask(task, max_length=16), base=reference)
    with pytest.raises(
        AdapterError, match=r"was saved without its head: 'base_model.model.classifier.weight' is in no"
    ):
        load_tuned(tmp_path / "adapter", base=reference)


def test_a_task_of_another_kind_is_refused(tmp_path: Path) -> None:
    model, reference = loaded("llama", tmp_path)
    with pytest.raises(ModelError, match=r"is a causal-lm model, and the task 'task' is scored with a classification"):
        measure_own_task(model, OwnTask(task_for("bert", tmp_path)), base=reference)
    three = load_base(tiny.save_model(tmp_path / "bert", "bert"), "classification", num_labels=3)
    three.model.save_pretrained(tmp_path / "three")
    three.tokenizer.save_pretrained(tmp_path / "three")
    three = load_base(str(tmp_path / "three"), "classification", num_labels=3)
    with pytest.raises(ModelError, match=r"has a head of 3 outputs, and the task 'task' needs 2"):
        measure_own_task(three, OwnTask(task_for("bert", tmp_path)), base=str(tmp_path / "bert"))
