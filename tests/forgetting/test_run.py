"""Whole runs: adapters on one base, full checkpoints, PiSSA, resume, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import small_models as small
import torch
from peft import LoraConfig, get_peft_model

from spectra.errors import DataError, ModelError
from spectra.forgetting import forgetting, measure, measure_forgetting, open_held_out
from spectra.forgetting.one_base import OneBase, weight_bits
from spectra.models import load_tuned


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
