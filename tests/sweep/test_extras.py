"""What a sweep can be asked for beside training: trackers, quantised bases, ROUGE-L, storage; and what it needs."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from spectra.errors import ModelError, SpecificationError
from spectra.sweep import read_specification, run_sweep
from spectra.sweep.preflight.look import preflight
from spectra.sweep.spec import requirements
from spectra.sweep.spec.plan import plan
from spectra.training.quantise import quantisation_config
from spectra.training.settings import TrainingSettings
from tests import tiny
from tests.training.test_callback import saved_base


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A tiny encoder-decoder that names the sentiment of a text."""
    folder = tmp_path_factory.mktemp("writer")
    return {
        "base": tiny.save_model(folder / "t5", "t5"),
        "task": tiny.save_answers(folder / "task.jsonl", 200),
        "methods": [{"method": "full", "learning_rate": [1e-2, 1e-5]}],
        "steps": 60,
        "batch_size": 8,
        "max_length": 16,
        "trajectory": 0,
    }


def test_learning_rates_are_chosen_by_rouge_l_when_asked(writer: dict[str, Any], tmp_path: Path) -> None:
    run = run_sweep({**writer, "validation_metric": "rouge-l"}, tmp_path / "run", executor="inline")
    trials = run.table("trials").set_index("learning_rate")
    assert set(trials["task_metric"]) == {"ROUGE-L"}
    assert trials["validation_score"].between(0, 1).all()
    assert trials.loc[1e-2, "validation_score"] > trials.loc[1e-5, "validation_score"]
    assert trials["chosen"].to_dict() == {1e-2: True, 1e-5: False}
    assert 0 < trials.loc[1e-2, "task_score"] <= 1
    assert trials["base_task_score"].between(0, 1).all()


def test_rouge_l_needs_a_model_that_writes(specification: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"validation_metric is 'rouge-l', and '.*' on this task is classification\."):
        run_sweep({**specification, "validation_metric": "rouge-l"}, tmp_path / "run", executor="inline")


def test_rouge_l_is_not_measured_while_training(writer: dict[str, Any]) -> None:
    with pytest.raises(SpecificationError, match="measured at the end of training; remove evaluate_every"):
        read_specification({**writer, "validation_metric": "rouge-l", "evaluate_every": 5})


class Tracker(TrainerCallback):
    """Stands in for a tracker's own callback."""

    made: list["Tracker"] = []

    def __init__(self) -> None:
        self.logs: list[dict[str, float]] = []
        self.run_names: set[str] = set()
        Tracker.made.append(self)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.logs.append(dict(logs))
        self.run_names.add(args.run_name)


def test_trackers_receive_losses_and_spectra(
    specification: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "wandb", Tracker)
    monkeypatch.setattr(requirements, "find_spec", lambda name: name)
    monkeypatch.setattr(Tracker, "made", [])
    given = {**specification, "heldout": [], "report_to": "wandb", "trajectory": 2, "steps": 4}
    run = run_sweep(given, tmp_path / "run", axes=["method=lora", "rank=1"], executor="inline")
    tracker = Tracker.made[0]
    assert sum("loss" in logs for logs in tracker.logs) == 4
    assert [logs["spectra/count"] for logs in tracker.logs if "spectra/count" in logs] == run.table("trajectory")[
        "count"
    ].tolist()
    assert tracker.run_names == {f"LoRA r=1 α=2 {run.trials()[0].id}"}


def test_tensorboard_writes_beside_the_trial(
    specification: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []

    class Writer:
        def __init__(self, log_dir: str) -> None:
            opened.append(log_dir)

        def __getattr__(self, name: str) -> Any:
            return lambda *args, **kwargs: None

    package = ModuleType("torch.utils.tensorboard")
    package.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", package)
    monkeypatch.setattr(integration_utils, "is_tensorboard_available", lambda: True)
    monkeypatch.setattr(requirements, "find_spec", lambda name: name)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "elsewhere")
    given = {**specification, "heldout": [], "report_to": ["tensorboard"], "trajectory": 0, "steps": 2}
    run = run_sweep(given, tmp_path / "run", axes=["method=lora", "rank=1"], executor="inline")
    assert set(opened) == {str(run.trials()[0].path / "tensorboard")}


def test_what_is_not_installed_is_said_before_anything_runs(
    specification: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requirements, "find_spec", lambda name: None)
    given = {**specification, "methods": specification["methods"][1:]}
    for field, value, told in (
        ("report_to", "wandb", r"report_to is 'wandb', and the package wandb is not installed\. Install it with"),
        ("quantisation", "nf4", r"The quantisation 'nf4' needs the package bitsandbytes, which is not installed\."),
        ("optimiser", "adamw_8bit", r"The optimiser 'adamw_8bit' needs the package bitsandbytes, which is not"),
        ("attention", "flash_attention_2", r"The attention 'flash_attention_2' needs the package flash_attn, which"),
    ):
        with pytest.raises(SpecificationError, match=told):
            run_sweep({**given, field: value}, tmp_path / "run", executor="inline")
        asked = read_specification({**given, field: value})
        with pytest.raises(SpecificationError, match=told):
            preflight(asked, plan(asked), planned=True)
    assert not (tmp_path / "run").exists()


PISSA = [{"method": "pissa", "rank": 1, "learning_rate": 1e-3}]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"report_to": "paper"}, "report_to 'paper' is unknown; choose among tensorboard, wandb"),
        ({"keep_steps": [3, 99]}, "keep_steps has step 99, and the training has 12 steps; remove it"),
        ({"quantisation": "nf4"}, "quantisation is nf4, but method 'full' changes the base's own weights"),
        ({"optimiser": "adamw"}, "optimiser: input should be 'adamw_torch', 'adamw_torch_fused', 'adamw_8bit'"),
        ({"attention": "quick"}, "attention: input should be 'eager', 'sdpa' or 'flash_attention_2'"),
        ({"base_dtype": "float16"}, "base_dtype: input should be 'bfloat16'"),
        ({"base_dtype": "bfloat16"}, "base_dtype is bfloat16 and precision is float32; add precision: bfloat16"),
        (
            {"base_dtype": "bfloat16", "precision": "bfloat16", "methods": PISSA},
            "base_dtype is bfloat16, but method 'pissa' takes a part out of the base",
        ),
        ({"trajectory": -1}, "trajectory: input should be greater than or equal to 0"),
        ({"store_dtype": "int8"}, "store_dtype: input should be 'bfloat16'"),
    ],
)
def test_impossible_wishes_are_refused(fields: dict[str, Any], told: str, specification: dict[str, Any]) -> None:
    with pytest.raises(SpecificationError, match=told):
        read_specification({**specification, **fields})


def test_a_plan_counts_what_is_kept_on_disk(specification: dict[str, Any]) -> None:
    plain, kept = (
        read_specification({**specification, **more}) for more in ({}, {"keep_steps": "4,8", "store_dtype": "bfloat16"})
    )
    for one, more in zip(
        *(preflight(asked, plan(asked), planned=True).estimates for asked in (plain, kept)), strict=True
    ):
        assert one.trial == more.trial  # what is recorded beside it does not change a trial
        assert one.disk_bytes is not None and more.disk_bytes is not None
        assert more.disk_bytes == one.disk_bytes * (1.5 if one.trial.training.method == "full" else 3)


def test_an_old_trial_keeps_its_identity() -> None:
    settings = TrainingSettings("base", "lora", 1e-3, 0, rank=1, alpha=2.0, steps=3)
    before = {name: value for name, value in settings.to_dict().items() if name not in NEW}
    assert TrainingSettings.from_dict(before) == settings


NEW = ("quantisation", "validation_metric", "base_dtype", "optimiser", "attention")


def test_the_head_of_a_quantised_base_is_left_alone() -> None:
    settings = TrainingSettings("base", "lora", 1e-3, 0, rank=1, steps=1, quantisation="nf4")
    nf4 = quantisation_config(settings)
    assert nf4.load_in_4bit and nf4.bnb_4bit_quant_type == "nf4" and nf4.bnb_4bit_use_double_quant
    assert {"classifier", "score", "lm_head"} <= set(nf4.llm_int8_skip_modules)
    int8 = quantisation_config(TrainingSettings(**{**settings.to_dict(), "quantisation": "int8"}))
    assert int8.load_in_8bit and not int8.load_in_4bit


# On a CPU, the 4-bit kernels of bitsandbytes refuse most shapes.
@pytest.mark.parametrize("quantisation", [pytest.param("nf4", marks=pytest.mark.gpu), "int8"])
def test_an_adapter_is_trained_on_a_quantised_base(quantisation: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    given = {
        "base": saved_base(tmp_path / "base", "llama"),
        "task": tiny.save_prose(tmp_path / "task.jsonl"),
        "methods": [{"method": "lora", "rank": 2, "learning_rate": 1e-2}],
        "quantisation": quantisation,
        "steps": 3,
        "batch_size": 4,
        "max_length": 16,
    }
    run = run_sweep(given, tmp_path / "run", executor="inline")
    (trial,) = run.table("trials").to_dict("records")
    assert trial["status"] == "done", trial["error"]
    last = run.table("trajectory").iloc[-1]
    assert last["count"] == trial["count"]  # against the published base, not its quantised copy
    assert last["update_frobenius"] == pytest.approx(trial["update_frobenius"], rel=1e-4)
