"""Whole runs: adapters on one base, full checkpoints, PiSSA, resume, and what is refused."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_models as small
import torch
from datasets import Dataset
from peft import (
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftConfig,
    VeraConfig,
    get_peft_model,
)

from spectra.errors import DataError, ModelError
from spectra.forgetting import HeldOut, forgetting, measure, measure_forgetting, open_held_out
from spectra.forgetting.one_base import OneBase, weight_bits
from spectra.models import content_of, load_tuned


@pytest.fixture
def family(tmp_path: Path) -> dict[str, str]:
    """A causal base, two adapters on it and a full checkpoint; names of their folders."""
    base = small.save(tmp_path / "base", small.llama())
    folders = {"base": base}
    for name, scale in (("first", 0.5), ("second", 1.0)):
        adapted = small.with_lora(small.llama(), targets=["q_proj", "down_proj"], scale=scale, task_type="CAUSAL_LM")
        adapted.peft_config["default"].base_model_name_or_path = base
        folders[name] = small.save(tmp_path / name, adapted)
    folders["full"] = small.save(tmp_path / "full", small.llama(seed=4))
    return folders


def test_every_checkpoint_gets_what_it_would_get_alone(family: dict[str, str]) -> None:
    task = small.prose(20)
    checkpoints = [family[name] for name in ("first", "full", "second", "base")]
    result = measure_forgetting(checkpoints, [task], base=family["base"])
    base = measure(small.llama(), small.tokenizer(), task)
    for checkpoint in checkpoints:
        loaded = load_tuned(checkpoint, base=family["base"])
        alone = forgetting(base, measure(loaded.model, loaded.tokenizer, task))
        assert result.results[checkpoint] == (alone,)
    assert result.results[family["base"]][0].forgetting == 0.0
    assert abs(result.results[family["first"]][0].forgetting) > 1e-4


def test_the_base_is_taken_from_the_adapters(family: dict[str, str]) -> None:
    assert measure_forgetting([family["first"]], [small.prose()]).base == family["base"]
    with pytest.raises(ModelError, match=r"Full checkpoints do not name their base: .*full\. Give it with --base\."):
        measure_forgetting([family["full"]], [small.prose()])


def test_finished_scores_are_not_measured_again(family: dict[str, str], tmp_path: Path) -> None:
    said: list[str] = []
    out = tmp_path / "out"
    first = measure_forgetting([family["first"]], [small.prose()], folder=out, progress=said.append)
    assert len(said) == 2
    again = measure_forgetting([family["first"]], [small.prose()], folder=out, progress=said.append)
    assert len(said) == 2 and again == first
    measure_forgetting([family["first"], family["second"]], [small.prose()], folder=out, progress=said.append)
    assert len(said) == 3
    measure_forgetting([family["first"]], [small.prose(limit=5)], folder=out, progress=said.append)
    assert len(said) == 5


def test_a_rewritten_checkpoint_is_measured_again(family: dict[str, str], tmp_path: Path) -> None:
    out, task = tmp_path / "out", small.prose()
    before = measure_forgetting([family["full"]], [task], base=family["base"], folder=out)
    small.save(Path(family["full"]), small.llama(seed=8))
    after = measure_forgetting([family["full"]], [task], base=family["base"], folder=out)
    assert before.results[family["full"]] != after.results[family["full"]]


def test_a_kept_score_belongs_to_contents_and_not_to_names(family: dict[str, str], tmp_path: Path) -> None:
    said: list[str] = []
    task = small.prose()

    def measured(task: HeldOut, **settings: Any) -> list[str]:
        before = len(said)
        measure_forgetting(
            [family["first"]], [task], base=family["base"], folder=tmp_path / "out", progress=said.append, **settings
        )
        return [line.partition(":")[0] for line in said[before:]]

    both = [family["base"], family["first"]]
    assert measured(task) == both
    assert measured(replace(task, name="called otherwise")) == []
    assert measured(replace(task, max_length=5)) == both
    assert measured(task, batch_size=2) == both
    data = task.task_data()
    assert measured(replace(task, data=replace(data, fingerprint="other rows"))) == both
    copy = shutil.copytree(family["first"], tmp_path / "elsewhere")
    assert content_of(copy) == content_of(family["first"])
    small.save(Path(family["base"]), small.llama(seed=5))  # other weights under the same name
    assert measured(task) == both


@pytest.mark.parametrize(
    "config",
    [
        VeraConfig(r=2, target_modules=["q_proj"], vera_dropout=0.0),
        LoHaConfig(r=2, alpha=2, target_modules=["q_proj", "down_proj"]),
        LoKrConfig(r=2, alpha=2, target_modules=["q_proj"]),
        IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
        OFTConfig(r=0, oft_block_size=4, target_modules=["q_proj"]),
    ],
    ids=lambda config: type(config).__name__,
)
def test_forgetting_under_any_adapter_is_that_of_the_model_that_peft_loads(config: PeftConfig, tmp_path: Path) -> None:
    base = small.save(tmp_path / "base", small.llama())
    config.base_model_name_or_path = base
    config.task_type = "CAUSAL_LM"
    adapted = get_peft_model(small.llama(), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.3)
    task = small.prose(8)
    expected = measure(adapted.eval(), small.tokenizer(), task)
    adapter = small.save(tmp_path / "adapter", adapted)
    [result] = measure_forgetting([adapter], [task], base=base).results[adapter]
    assert result.tuned == pytest.approx(expected.loss, rel=1e-6)
    assert abs(result.forgetting) > 1e-3


def test_texts_beyond_the_positions_are_one_sentence(tmp_path: Path) -> None:
    base = small.save(tmp_path / "base", small.masked_bert(), framed=True)
    tuned = small.save(tmp_path / "tuned", small.masked_bert(seed=1), framed=True)
    rows = Dataset.from_dict({"text": ["w1 " * 20, "w2 " * 63]})  # with [CLS] and [SEP] one token too many
    long = small.prose(measure="pseudo-loss", max_length=65)
    long = replace(long, data=replace(long.task_data(), test=rows))
    with pytest.raises(
        ModelError, match=r"max_length is 65 for held-out task 'prose:pseudo-loss', which has texts bey"
    ):
        measure_forgetting([tuned], [long], base=base)
    assert measure_forgetting([tuned], [replace(long, max_length=64)], base=base).results[tuned][0].n == 2
    assert measure_forgetting([tuned], [small.prose(4, measure="pseudo-loss", max_length=65)], base=base)


def test_an_adapter_that_changes_w0_itself_does_not_spoil_the_base(tmp_path: Path) -> None:
    base = small.save(tmp_path / "base", small.llama())
    config = LoraConfig(r=2, lora_alpha=2, target_modules=["q_proj"], init_lora_weights="pissa", task_type="CAUSAL_LM")
    adapted = get_peft_model(small.llama(), config)
    adapted.peft_config["default"].base_model_name_or_path = base
    pissa = small.save(tmp_path / "pissa", adapted)
    scorer = OneBase(base, dtype=torch.float32, device="cpu")
    published = weight_bits(scorer.untouched("causal-lm").model)
    with scorer.wearing(Path(pissa), "causal-lm"):
        pass
    assert weight_bits(scorer._loaded.model) != published  # type: ignore[union-attr] # what the guard is there for
    assert weight_bits(scorer.untouched("causal-lm").model) == published


def test_taking_an_adapter_off_leaves_the_same_model_in_memory(family: dict[str, str]) -> None:
    scorer = OneBase(family["base"], dtype=torch.float32, device="cpu")
    model = scorer.untouched("causal-lm").model
    for name in ("first", "second"):
        with scorer.wearing(Path(family[name]), "causal-lm"):
            pass
        assert scorer.untouched("causal-lm").model is model


def test_a_classification_adapter_is_probed_and_its_body_put_under_the_masked_head(tmp_path: Path) -> None:
    base = small.save(tmp_path / "base", small.masked_bert(), framed=True)
    tuned = small.classifying_bert(seed=0)
    tuned.bert.load_state_dict(small.masked_bert().bert.state_dict(), strict=False)
    adapted = small.with_lora(tuned, targets=["query", "value"], task_type="SEQ_CLS")
    adapted.peft_config["default"].base_model_name_or_path = base
    adapter = small.save(tmp_path / "adapter", adapted)
    tasks = [small.sentiment("nearest-neighbour", n=60), small.prose(6, measure="pseudo-loss")]
    probe, pseudo = measure_forgetting([adapter], tasks).results[adapter]
    expected = measure(small.masked_bert(), small.tokenizer(framed=True), tasks[1])
    assert pseudo.base == pytest.approx(expected.loss, abs=0)
    assert pseudo.forgetting != 0.0 and probe.n == 60


def test_a_measure_that_the_model_has_no_head_for_is_refused_before_anything_runs(family: dict[str, str]) -> None:
    with pytest.raises(ModelError, match=r"is a causal-lm model, which 'pseudo-loss' .*Use one of linear-probe"):
        measure_forgetting([family["first"]], [small.prose(measure="pseudo-loss")])


def test_a_wrapped_base_is_refused(family: dict[str, str]) -> None:
    task = small.prose()
    wrapped = load_tuned(family["first"])
    tuned = measure(wrapped.model, wrapped.tokenizer, task)
    with pytest.raises(DataError, match="was measured with the adapter 'default' switched on"):
        forgetting(tuned, tuned)
    with wrapped.model.disable_adapter():  # type: ignore[union-attr,operator]
        base = measure(wrapped.model, wrapped.tokenizer, task)
    assert np.array_equal(base.values, measure(small.llama(), small.tokenizer(), task).values)
    assert forgetting(base, tuned).forgetting != 0.0


def test_held_out_tasks_are_opened_by_name_and_measure(tmp_path: Path) -> None:
    file = tmp_path / "prose.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in small.texts(30)))
    assert open_held_out(str(file)).measure == "lm-loss"
    task = open_held_out(f"{file}:pseudo-loss", limit=2)
    assert (task.measure, task.name, len(task.test_texts())) == ("pseudo-loss", "prose:pseudo-loss", 2)
    with pytest.raises(DataError, match=r"There is no measure 'pseudoloss'\. Did you mean 'pseudo-loss'\?"):
        open_held_out(f"{file}:pseudoloss")
