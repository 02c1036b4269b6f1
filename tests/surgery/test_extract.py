"""Extracted adapters against peft's merge and the truncated SVD in float64 NumPy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaForCausalLM,
)

from spectra.data import load_task, task_from_rows
from spectra.errors import CheckpointError, DestinationError, ModelError, SpectrumError
from spectra.forgetting import HeldOut
from spectra.interventions.own_task import OwnTask
from spectra.records.surgery import Reduction
from spectra.surgery import extract
from tests import tiny
from tests.interventions.adapters import gpt2, llama, quiet

IDS = torch.arange(3, 15)[None]
SPLITS = ("train", "validation", "test")


def tuned_pair(
    folder: Path, build: Callable[[], Any], size: float = 0.05, ranks: int | None = None
) -> tuple[Path, Path]:
    """A base and a full fine-tuning of it: every matrix of the blocks moved, by a planted rank or densely."""
    with quiet():
        build().save_pretrained(folder / "base")
        model = build()
        torch.manual_seed(5)
        for name, parameter in model.named_parameters():
            if (parameter.ndim == 2 and ".layers." in name + ".") or (".h." in name and parameter.ndim == 2):
                if ranks is None:
                    parameter.data += size * torch.randn_like(parameter)
                else:
                    A, B = torch.randn(ranks, parameter.shape[1]), torch.randn(parameter.shape[0], ranks)
                    parameter.data += size * B @ A
        model.save_pretrained(folder / "full")
    return folder / "base", folder / "full"


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tuned_pair(tmp_path_factory.mktemp("dense"), llama)


def merged(build: Callable[[], Any], adapter: Path) -> dict[str, torch.Tensor]:
    with quiet():
        return peft.PeftModel.from_pretrained(build(), adapter).merge_and_unload().state_dict()


@pytest.mark.parametrize(("build", "transposed"), [(llama, False), (gpt2, True)])
def test_pefts_merge_is_w0_plus_the_truncated_svd(build: Callable[[], Any], transposed: bool, tmp_path: Path) -> None:
    base, full = tuned_pair(tmp_path, build)
    result = extract(full, base=base, out=tmp_path / "out", rank=5)
    found, before = merged(build, tmp_path / "out"), build().state_dict()
    after = load_file(full / "model.safetensors")
    changed = [name for name in before if not torch.equal(found[name], before[name])]
    assert len(changed) == len(result.matrices) > 6
    for name in changed:
        stored = next(tensor for key, tensor in after.items() if name.endswith(key))
        delta = (stored - before[name]).double().numpy()
        U, S, Vh = np.linalg.svd(delta, full_matrices=False)
        expected = before[name].double().numpy() + (U[:, :5] * S[:5]) @ Vh[:5]
        np.testing.assert_allclose(found[name].numpy(), expected, atol=2e-6)
        record = next(one for one in result.matrices if one.name in name)
        assert record.error == pytest.approx(float(np.linalg.norm(S[5:])), rel=1e-4)
        assert record.least_error <= float(np.linalg.norm(S[5:])) <= record.error * (1 + 1e-5)
    assert json.loads((tmp_path / "out" / "adapter_config.json").read_text())["fan_in_fan_out"] is transposed


def test_the_logits_are_those_of_the_formula(dense: tuple[Path, Path], tmp_path: Path) -> None:
    base, full = dense
    extract(full, base=base, out=tmp_path / "out", energy=0.8)
    model, before, after = llama(), llama().state_dict(), load_file(full / "model.safetensors")
    state = dict(before)
    for name in before:
        if ".layers." in name and before[name].ndim == 2:
            delta = (after[name] - before[name]).double()
            U, S, Vh = torch.linalg.svd(delta, full_matrices=False)
            rank = int((S.square().cumsum(0) < 0.8 * S.square().sum()).sum()) + 1
            state[name] = (before[name].double() + (U[:, :rank] * S[:rank]) @ Vh[:rank]).float()
    model.load_state_dict(state)
    with quiet(), torch.no_grad():
        adapted = peft.PeftModel.from_pretrained(llama(), tmp_path / "out").eval()
        torch.testing.assert_close(adapted(IDS).logits, model(IDS).logits, atol=2e-5, rtol=1e-5)


def test_planted_ranks_are_recovered_and_the_count_is_the_originals(tmp_path: Path) -> None:
    base, full = tuned_pair(tmp_path, llama, size=0.5, ranks=2)
    result = extract(full, base=base, out=tmp_path / "out", error=1e-3, k=4, epsilon=0.8)
    assert {matrix.rank for matrix in result.matrices} == {2}
    assert result.error <= 1e-5 * result.norm
    assert result.count_before == result.count_after and result.count_before


@pytest.mark.parametrize("budget", [900, 2500])
def test_a_budget_is_kept_and_spread_better_than_evenly(dense: tuple[Path, Path], budget: int, tmp_path: Path) -> None:
    base, full = dense
    result = extract(full, base=base, out=tmp_path / "out", parameters=budget, count=False)
    assert 0.9 * budget < result.parameters <= budget
    costs = [sum(matrix.shape) for matrix in result.matrices]
    even = extract(full, base=base, out=tmp_path / "even", rank=max(1, budget // sum(costs)), count=False)
    assert even.parameters > budget or result.error <= even.error


def classifier() -> BertForSequenceClassification:
    torch.manual_seed(3)
    return BertForSequenceClassification(BERT)


BERT = BertConfig(
    vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, num_labels=3,
    max_position_embeddings=32, initializer_range=0.2,
)  # fmt: skip


def test_a_head_norms_and_biases_come_along(tmp_path: Path) -> None:
    """A classifier tuned from a bare encoder: with everything saved and full rank the adapter is the checkpoint."""
    with quiet():
        torch.manual_seed(0)
        BertModel(BERT).save_pretrained(tmp_path / "base")
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
        torch.manual_seed(1)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.eval().save_pretrained(tmp_path / "full")
        result = extract(
            tmp_path / "full", base=tmp_path / "base", out=tmp_path / "out", rank=16, modules_to_save=["all"]
        )
        fresh = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
        adapted = peft.PeftModel.from_pretrained(fresh, tmp_path / "out").eval()
    assert result.left_behind == ()
    with torch.no_grad():
        torch.testing.assert_close(adapted(IDS).logits, model(IDS).logits, atol=3e-5, rtol=1e-4)


def test_what_is_not_saved_is_named(tmp_path: Path) -> None:
    with quiet():
        torch.manual_seed(0)
        BertModel(BERT).save_pretrained(tmp_path / "base")
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(tmp_path / "full")
    result = extract(tmp_path / "full", base=tmp_path / "base", out=tmp_path / "out", rank=2, count=False)
    assert result.saved_whole == ("classifier",)
    kinds = {one.reason.rpartition(" ")[2] for one in result.left_behind}
    assert kinds == {"norms", "biases", "embeddings", "others"}
    assert any("are not in the adapter" in warning for warning in result.warnings)
    with pytest.raises(SpectrumError, match="'norm' is no kind of module to save"):
        extract(tmp_path / "full", base=tmp_path / "base", out=tmp_path / "o", rank=2, modules_to_save=["norm"])


def test_an_update_of_zero_is_no_adapter(dense: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no update to extract"):
        extract(dense[0], base=dense[0], out=tmp_path / "out", rank=2)
    assert not (tmp_path / "out").exists()


def test_a_matrix_that_did_not_change_gets_no_factors(tmp_path: Path) -> None:
    base, full = tuned_pair(tmp_path, llama)
    tensors = load_file(full / "model.safetensors")
    same = "model.layers.0.self_attn.q_proj.weight"
    tensors[same] = load_file(base / "model.safetensors")[same]
    save_file(tensors, full / "model.safetensors", metadata={"format": "pt"})
    result = extract(full, base=base, out=tmp_path / "out", rank=2)
    ranks = {matrix.name: matrix.rank for matrix in result.matrices}
    assert ranks["layers.0.self_attn.q_proj"] == 0 and sorted(set(ranks.values())) == [0, 2]
    assert not any(
        "layers.0.self_attn.q_proj" in name for name in load_file(tmp_path / "out/adapter_model.safetensors")
    )


def test_a_nan_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    base, full = tuned_pair(tmp_path, llama)
    tensors = load_file(full / "model.safetensors")
    tensors["model.layers.0.self_attn.q_proj.weight"][0, 0] = float("nan")
    save_file(tensors, full / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match="1 NaN"):
        extract(full, base=base, out=tmp_path / "out", rank=2)
    assert not (tmp_path / "out").exists()


def test_a_rank_above_the_dimension_and_an_output_that_exists_are_refused(
    dense: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(SpectrumError, match="Rank 25 exceeds the smaller dimension"):
        extract(dense[1], base=dense[0], out=tmp_path / "out", rank=25)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(DestinationError, match="exists"):
        extract(dense[1], base=dense[0], out=tmp_path / "mine", rank=2)
    assert (tmp_path / "mine" / "file").read_text() == "x"


def test_another_base_is_refused(dense: tuple[Path, Path], tmp_path: Path) -> None:
    with quiet():
        gpt2().save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="No matrix of"):
        extract(dense[1], base=tmp_path / "other", out=tmp_path / "out", rank=2)


def test_the_record_is_a_table_and_an_object(dense: tuple[Path, Path], tmp_path: Path) -> None:
    result: Reduction = extract(dense[1], base=dense[0], out=tmp_path / "out", rank=2)
    assert len(result.to_dataframe()) == len(result.matrices)
    told = json.loads(json.dumps(result.to_dict()))
    assert told["error"] == pytest.approx(float(np.hypot.reduce([one["error"] for one in told["matrices"]])))
    assert "<table>" in result._repr_html_()


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with a tokenizer, a full fine-tuning, a trained adapter and two tasks."""
    folder = tmp_path_factory.mktemp("spoken")
    tiny.save_model(folder / "base", "llama")
    model = LlamaForCausalLM.from_pretrained(folder / "base")
    torch.manual_seed(4)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    with quiet():
        model.save_pretrained(folder / "full")
        trained = peft.get_peft_model(
            LlamaForCausalLM.from_pretrained(folder / "base"),
            peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM", init_lora_weights=False),
        )
        trained.save_pretrained(folder / "trained")
    rows = [{"source": f"{good} w{n}", "target": f"{bad} w{n % 3}"}
            for n, (good, bad) in enumerate(zip(tiny.GOOD * 8, tiny.BAD * 8, strict=True))]  # fmt: skip
    (folder / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def measure(folder: Path, out: Path, **settings: Any) -> Reduction:
    data = load_task({"path": str(folder / "task.jsonl"), "test": 20, "validation": 5})
    prose = task_from_rows(
        "prose",
        "causal-lm",
        **{split: [{"text": f"w{n} lovely w{n + 1} {split}"} for n in range(6)] for split in SPLITS},
    )
    return extract(
        folder / "full",
        base=folder / "base",
        out=out,
        count=False,
        task=OwnTask(data, max_length=32),
        heldout=[HeldOut("prose", "lm-loss", prose)],
        **settings,
    )


def test_the_original_the_extracted_and_the_trained_are_measured_as_peft_loads_them(
    spoken: Path, tmp_path: Path
) -> None:
    with quiet():
        result = measure(spoken, tmp_path / "out", rank=2, beside=spoken / "trained")
    names = [str(spoken / "full"), str(tmp_path / "out"), str(spoken / "trained")]
    assert [(one.checkpoint, one.what) for one in result.measured] == [
        (name, what) for what in ("score", "forgetting") for name in names
    ]
    values = {(one.checkpoint, one.what): one.value for one in result.measured}
    words, data = tiny.tokenizer(), load_task({"path": str(spoken / "task.jsonl"), "test": 20, "validation": 5})
    loss = {name: loss_of_answers(loaded(spoken, name), words, data.test) for name in names}
    assert len(set(values.values())) == 6
    for name in names:
        assert values[name, "score"] == pytest.approx(-loss[name], abs=1e-5)


def loaded(folder: Path, name: str) -> Any:
    with quiet():
        if name == str(folder / "full"):
            return LlamaForCausalLM.from_pretrained(name).eval()
        base = LlamaForCausalLM.from_pretrained(folder / "base")
        return peft.PeftModel.from_pretrained(base, name).merge_and_unload().eval()


def loss_of_answers(model: Any, words: Any, rows: Any) -> float:
    """Nats per token of the answers and the tokens that end them, one text at a time."""
    total, tokens = 0.0, 0
    for row in rows:
        prompt = words(row["source"] + "\n")["input_ids"]
        answer = [*words(row["target"])["input_ids"], words.eos_token_id]
        with torch.no_grad():
            logits = model(torch.tensor([prompt + answer])).logits[0].double().log_softmax(-1)
        total -= sum(float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))
        tokens += len(answer)
    return total / tokens


def test_the_whole_update_scores_and_forgets_as_the_original_does(spoken: Path, tmp_path: Path) -> None:
    with quiet():
        result = measure(spoken, tmp_path / "out", energy=1.0, modules_to_save=["all"])
    values = [one.value for one in result.measured]
    assert values[0] == pytest.approx(values[1], abs=1e-4) and values[2] == pytest.approx(values[3], abs=1e-4)


def test_a_task_of_another_head_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with quiet():
        tiny.save_model(tmp_path / "base", "bert")
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base", num_labels=3)
        for parameter in model.parameters():
            parameter.data += 0.1 * torch.randn_like(parameter)
        model.save_pretrained(tmp_path / "full")
        rows = {split: [{"text": f"{split} {n}", "label": "ab"[n % 2]} for n in range(4)] for split in SPLITS}
        two = OwnTask(task_from_rows("two", "classification", **rows))
        with pytest.raises(ModelError, match="has a head of 3 outputs, and the task 'two' needs 2"):
            extract(tmp_path / "full", base=tmp_path / "base", out=tmp_path / "out", rank=2, count=False, task=two)
    assert not (tmp_path / "out").exists()
