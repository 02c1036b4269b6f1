"""A base in bfloat16 under float32 adapters, other optimisers, other attentions."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import LlamaForCausalLM

from spectra.data import load_task
from spectra.errors import ModelError
from spectra.training import SpectraCallback
from spectra.training.driver import TrainingStopped, train
from spectra.training.settings import TrainingSettings
from spectra.training.store import save_trained
from tests import tiny


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.save_model(tmp_path_factory.mktemp("models") / "llama", "llama")


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.save_model(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="module")
def prose(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.save_prose(tmp_path_factory.mktemp("tasks") / "prose.jsonl")


@pytest.fixture(scope="module")
def sentiment(tmp_path_factory: pytest.TempPathFactory) -> str:
    return tiny.save_sentiment(tmp_path_factory.mktemp("tasks") / "sentiment.jsonl", 200)


def settings(base: str, method: str, **changes: object) -> TrainingSettings:
    own = {} if method == "full" else {"rank": 2, "alpha": 4.0}
    shared = {"steps": 6, "batch_size": 4, "max_length": 16, "precision": "bfloat16", "base_dtype": "bfloat16"}
    return TrainingSettings(base, method, 1e-2, 3, **{**shared, **own, **changes})


@pytest.mark.parametrize("method", ["lora", "frozen-a", "dora", "vera", "full"])
@pytest.mark.parametrize("kind", ["prose", "sentiment"])
def test_what_is_frozen_is_rounded_and_what_is_trained_is_not(
    method: str, kind: str, llama: str, bert: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    base = llama if kind == "prose" else bert
    trained = train(settings(base, method), load_task(request.getfixturevalue(kind)), tmp_path / "training")
    adapters = {name for name, _ in trained.model.named_parameters() if "lora_" in name or "vera_" in name}
    for name, parameter in trained.model.named_parameters():
        wide = parameter.requires_grad or name in adapters
        assert parameter.dtype == (torch.float32 if wide else torch.bfloat16), name
    assert trained.steps == 6
    save_trained(trained.model, trained.tokenizer, trained.initial, tmp_path / "saved")
    [file] = (tmp_path / "saved").glob("*.safetensors")
    with safe_open(file, framework="pt") as saved:
        assert all(saved.get_tensor(name).dtype == torch.float32 for name in saved.keys())  # noqa: SIM118


def test_the_new_head_is_that_of_a_base_in_float32(bert: str, sentiment: str, tmp_path: Path) -> None:
    task, asked = load_task(sentiment), settings(bert, "lora", steps=1, head_learning_rate=1e-12)
    heads = []
    for number, dtype in enumerate(("bfloat16", None)):
        trained = train(replace(asked, base_dtype=dtype), task, tmp_path / str(number))
        heads += [p.detach() for n, p in trained.model.named_parameters() if "classifier" in n and p.requires_grad]
    half = len(heads) // 2
    assert half and all(torch.allclose(a, b, atol=1e-6) for a, b in zip(heads[:half], heads[half:], strict=True))


def test_a_stopped_training_on_a_rounded_base_goes_on_to_the_same_end(llama: str, prose: str, tmp_path: Path) -> None:
    task, asked = load_task(prose), settings(llama, "lora", optimiser="adafactor")
    whole = train(asked, task, tmp_path / "whole")
    reached: list[int] = []
    with pytest.raises(TrainingStopped):
        train(asked, task, tmp_path / "cut", on_step=lambda now, of: reached.append(now), stop=lambda: len(reached) > 2)
    again = train(asked, task, tmp_path / "cut")
    theirs = again.model.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in whole.model.state_dict().items())


def test_the_callback_takes_w0_from_the_rounded_base(llama: str, prose: str, tmp_path: Path) -> None:
    watching = SpectraCallback(points=1, k=2)
    train(settings(llama, "lora"), load_task(prose), tmp_path, watching=watching)
    assert watching.trajectory.rows[-1]["update_frobenius"] > 0


@pytest.mark.parametrize(
    ("optimiser", "kind"),
    [("adamw_torch", "AdamW"), ("adamw_torch_fused", "AdamW"), ("adafactor", "Adafactor"), ("sgd", "SGD")],
)
def test_the_optimiser_is_the_one_asked_for(
    optimiser: str, kind: str, llama: str, prose: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from spectra.training import driver

    seen = []
    monkeypatch.setattr(driver, "optimiser_bytes", lambda used: seen.append(type(used.optimizer).__name__) or 0)
    train(settings(llama, "full", optimiser=optimiser, steps=2), load_task(prose), tmp_path)
    assert seen == [kind]


def test_the_attention_is_the_one_asked_for(llama: str, prose: str, tmp_path: Path) -> None:
    for attention in ("eager", "sdpa"):
        trained = train(settings(llama, "lora", attention=attention, steps=1), load_task(prose), tmp_path / attention)
        inner: LlamaForCausalLM = trained.model.get_base_model()
        assert inner.config._attn_implementation == attention


def test_an_attention_that_cannot_be_had_is_one_sentence(llama: str, prose: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded: FlashAttention2 has been toggled on"):
        train(settings(llama, "lora", attention="flash_attention_2"), load_task(prose), tmp_path)


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_gpu_trains_in_bfloat16_and_the_callback_scans_there(
    method: str, llama: str, prose: str, tmp_path: Path
) -> None:
    watching = SpectraCallback(points=2, k=2)
    asked = settings(llama, method, optimiser="adamw_torch_fused", attention="sdpa")
    trained = train(asked, load_task(prose), tmp_path / "training", watching=watching)
    assert next(trained.model.parameters()).is_cuda
    assert trained.validation.score == trained.validation.score
    save_trained(trained.model, trained.tokenizer, trained.initial, tmp_path / "saved")
    import spectra

    base = None if method == "lora" else llama
    scan = spectra.intruders(tmp_path / "saved", base=base, k=2)
    assert sum(matrix.count for matrix in scan.matrices) == watching.trajectory.rows[-1]["count"]
