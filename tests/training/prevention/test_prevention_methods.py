"""The rules as methods of a sweep: resumed in every phase, saved, refused by their specification."""

from pathlib import Path
from typing import Any

import pytest
import torch

from spectra.data import TaskData, load_task
from spectra.errors import SpectraError
from spectra.models import load_base
from spectra.training.adapt import METHODS, attach
from spectra.training.driver import TrainingStopped, train
from spectra.training.method import Method
from spectra.training.prevention.factors import lora_layers
from spectra.training.settings import TrainingSettings
from tests import tiny
from tests.training.prevention.training import save_base

RULES = [name for name, method in METHODS.items() if method.rule is not None]
ARGUMENTS: dict[str, dict[str, Any]] = {
    "oplora": {"protect": 3},
    "spectral-budget": {"share": [0.2, 1.0]},
    "max-norm": {"norm": 0.1},
    "full-max-norm": {"norm": 0.1},
    "l2-init": {"decay": 10.0},
    "full-l2-init": {"decay": 10.0},
}


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tasks")
    return tiny.save_prose(folder / "task.jsonl"), tiny.save_prose(folder / "replayed.jsonl", seed=7)


def settings(base: str, method: str, texts: tuple[str, str], **changes: Any) -> TrainingSettings:
    given = ARGUMENTS.get(method, {"task": texts[1], "share": 0.3})
    own = {"rank": 2, "alpha": 4.0} if METHODS[method].has_rank else {}
    values: dict[str, Any] = {"steps": 6, "batch_size": 4, "max_length": 24, "arguments": given, **own, **changes}
    return TrainingSettings(base=base, method=method, learning_rate=2e-2, seed=3, **values)


def test_every_rule_is_tried_here() -> None:
    assert set(RULES) == {*ARGUMENTS, "replay", "full-replay"}


@pytest.mark.parametrize("method", RULES)
def test_a_stopped_training_goes_on_to_the_same_end_from_every_phase(
    method: str, llama: str, texts: tuple[str, str], tmp_path: Path
) -> None:
    given, task = settings(llama, method, texts), load_task(texts[0])
    undisturbed = train(given, task, tmp_path / "whole").model.state_dict()
    for step in (1, 3, 5) if method == "spectral-budget" else (3,):
        stopped_at(step, given, task, tmp_path / f"at-{step}")
        again = train(given, task, tmp_path / f"at-{step}").model.state_dict()
        assert all(torch.equal(value, again[name]) for name, value in undisturbed.items()), step


def stopped_at(step: int, given: TrainingSettings, task: TaskData, folder: Path) -> None:
    reached: list[int] = []
    with pytest.raises(TrainingStopped):
        train(given, task, folder, on_step=lambda now, of: reached.append(now), stop=lambda: reached[-1:] == [step])


def test_a_rule_changes_what_is_trained(llama: str, texts: tuple[str, str], tmp_path: Path) -> None:
    """Beside the same method without it: none of them is silently without effect."""
    task = load_task(texts[0])
    plain = {
        full: train(settings(llama, "full" if full else "lora", texts, arguments={}), task, tmp_path / f"plain-{full}")
        for full in (False, True)
    }
    for method in RULES:
        ruled = train(settings(llama, method, texts), task, tmp_path / method).model.state_dict()
        beside = plain[METHODS[method].config is None].model.state_dict()
        assert any(not torch.equal(value, beside[name]) for name, value in ruled.items()), method


def test_milora_starts_from_the_smallest_triplets_and_keeps_the_residual(llama: str, texts: tuple[str, str]) -> None:
    published = load_base(llama, "causal-lm").model
    model = attach(
        load_base(llama, "causal-lm").model, settings(llama, "milora", texts, arguments={}, rank=3), "CAUSAL_LM"
    )
    model.peft_config["default"].init_lora_weights = True  # so that the factors may be looked at
    for layer in lora_layers(model, "a test"):
        W0 = published.get_submodule(layer.name.removeprefix("base_model.model.")).weight.detach()
        S = torch.linalg.svdvals(W0)
        taken = layer.scaling * layer.B @ layer.A
        torch.testing.assert_close(
            torch.linalg.svdvals(taken)[:3], S[-3:].clamp_min(1e-3 * float(S.mean())), rtol=1e-3, atol=1e-5
        )
        torch.testing.assert_close(torch.linalg.svdvals(layer.base_weight())[:-3], S[:-3], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(layer.base_weight() + taken, W0, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "arguments", "words"),
    [
        ("spectral-budget", {"share": 2}, r"share is 2\. Give a number above 0 and of at most 1"),
        ("max-norm", {}, r"norm is 0\. Give a number above 0"),
        ("l2-init", {}, r"decay is -1\. Give a number of at least 0"),
        ("oplora", {"protect": 0}, r"protect is 0"),
        ("oplora", {"protects": 3}, r"protects.* Change its rank, target_modules or arguments"),
        ("replay", {}, r"needs the task whose texts it replays"),
        ("full-l2-init", {"norm": 1.0}, r"method 'full-l2-init' has no argument norm; it has decay"),
        ("full", {"norm": 1.0}, r"method 'full' takes no arguments"),
        ("spectral-budget", {"ratio": 4}, r"has no ratio of learning rates"),
    ],
)
def test_arguments_without_a_meaning_are_refused_before_anything_runs(
    method: str, arguments: dict[str, Any], words: str, llama: str, texts: tuple[str, str]
) -> None:
    from spectra import plan_sweep

    entry: dict[str, Any] = {"method": method, "learning_rate": 1e-2, "arguments": arguments}
    entry |= {"rank": 2} if METHODS[method].has_rank else {}
    with pytest.raises(SpectraError, match=words):
        plan_sweep({"base": llama, "task": texts[0], "methods": [entry], "steps": 2, "max_length": 24})


def test_an_argument_of_peft_reaches_peft_beside_one_of_the_method(llama: str, texts: tuple[str, str]) -> None:
    given = settings(llama, "max-norm", texts, arguments={"norm": 1.0, "use_rslora": True})
    model = attach(load_base(llama, "causal-lm").model, given, "CAUSAL_LM")
    assert lora_layers(model, "a test")[0].scaling == pytest.approx(4 / 2**0.5)
    method: Method = METHODS["max-norm"]
    assert method.label(given) == "Max-norm r=2 α=4 norm=1.0 use_rslora=true"
