"""The callback in a stranger's Trainer script: its numbers are those of a scan of the checkpoint saved at that step."""

import logging
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from peft import LoraConfig, VeraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from spectra import Selection, intruders
from spectra.engine.cache import FactorCache
from spectra.errors import CheckpointError, DataError, ModelError, SpectrumError
from spectra.training import SpectraCallback
from spectra.training.callback import device_for
from tests import tiny

K = 2
EPSILON = 0.7  # high, so that short trainings have intruders to agree on
LORA = {"r": 2, "lora_alpha": 8, "target_modules": "all-linear"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return saved_base(tmp_path_factory.mktemp("base"), "llama")


def saved_base(folder: Path, family: str) -> str:
    """Wide enough (64) for the Krylov methods at k = 2, deep enough for two layers."""
    torch.manual_seed(0)
    words = tiny.tokenizer()
    if family == "gpt2":
        config = GPT2Config(
            vocab_size=len(words), n_embd=64, n_layer=2, n_head=2, n_positions=32, initializer_range=0.2
        )
        model: Any = GPT2LMHeadModel(config)
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=len(words), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
                num_key_value_heads=2, max_position_embeddings=32, initializer_range=0.2, pad_token_id=0,
            )
        )  # fmt: skip
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return str(folder)


class Sentences(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Random tokens: what is learnt does not matter here."""

    def __init__(self) -> None:
        self.tokens = torch.randint(5, 40, (64, 12), generator=torch.Generator().manual_seed(1))

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def model_of(base: str, method: str) -> Any:
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(base)
    if method == "full":
        return model
    if method == "vera":
        return get_peft_model(model, VeraConfig(r=8, target_modules="all-linear", save_projection=True))
    extra: dict[str, dict[str, Any]] = {
        "lora": {"use_rslora": True, "rank_pattern": {"q_proj": 4}},
        "dora": {"use_dora": True},
        "pissa": {"init_lora_weights": "pissa"},
    }
    return get_peft_model(model, LoraConfig(**{**LORA, **extra[method]}, task_type="CAUSAL_LM"))


def trainer_of(model: Any, folder: Path, callbacks: list[Any] | None = None, **changes: Any) -> Trainer:
    rate = 3e-2 if hasattr(model, "peft_config") else 5e-2
    given: dict[str, Any] = {
        "max_steps": 6, "learning_rate": rate, "per_device_train_batch_size": 8, "save_steps": 3, "logging_steps": 2,
        "report_to": "none", "disable_tqdm": True, "seed": 0, "lr_scheduler_type": "constant",
    }  # fmt: skip
    arguments = TrainingArguments(output_dir=str(folder / "out"), **{**given, **changes})
    return Trainer(model, arguments, train_dataset=Sentences(), callbacks=callbacks)


def watch(folder: Path, **given: Any) -> SpectraCallback:
    given = {"every": 3, "k": K, "epsilon": EPSILON, "warn_at": None, **given}
    return SpectraCallback(cache=FactorCache(folder / "cache"), **given)


@pytest.mark.parametrize("method", ["full", "lora", "dora", "pissa", "vera"])
def test_the_numbers_are_those_of_a_scan_of_the_checkpoint_saved_at_that_step(
    method: str, base: str, tmp_path: Path
) -> None:
    callback = watch(tmp_path)
    trainer = trainer_of(model_of(base, method), tmp_path)
    callback.attach(trainer)
    trainer.train()
    steps, matrices = callback.to_dataframe(), callback.to_dataframe("matrices")
    assert list(steps["step"]) == [3, 6]
    for row in steps.to_dict("records"):
        saved = tmp_path / "out" / f"checkpoint-{row['step']}"
        scan = intruders(saved, base, k=K, epsilon=EPSILON, method="exact", dense_norms=True)
        assert row["count"] == scan.count
        assert row["matrices"] == len(scan.matrices) == 14
        mine = matrices[matrices["step"] == row["step"]].set_index("name")
        assert list(mine.index) == [matrix.name for matrix in scan.matrices]
        for matrix in scan.matrices:
            assert matrix.update is not None
            found = mine.loc[matrix.name]
            assert found["count"] == matrix.count
            # float32 factorisations on either side, of weights around 1
            assert found["energy_share"] == pytest.approx(matrix.energy_share, rel=1e-4, abs=1e-6)
            assert found["update_frobenius"] == pytest.approx(matrix.update.frobenius, rel=1e-3)
            assert found["effective_rank"] == pytest.approx(matrix.update.effective_rank, rel=1e-3)
    if method != "vera":  # which hardly moves in six steps
        assert steps["count"].iloc[-1] > 0


def test_a_transposed_layer_is_the_right_way_round(tmp_path: Path) -> None:
    base = saved_base(tmp_path / "gpt2", "gpt2")
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=2, lora_alpha=8, target_modules=["c_attn", "c_proj"], fan_in_fan_out=True),
    )
    trainer = trainer_of(model, tmp_path)
    callback = watch(tmp_path).attach(trainer)
    trainer.train()
    scan = intruders(tmp_path / "out" / "checkpoint-6", base, k=K, epsilon=EPSILON, method="exact")
    assert list(callback.to_dataframe()["count"])[-1] == scan.count
    assert callback.to_dataframe()["matrices"].iloc[-1] == len(scan.matrices) == 6


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_training_is_the_same_with_and_without_it(method: str, base: str, tmp_path: Path) -> None:
    with_it, without = (trainer_of(model_of(base, method), tmp_path / name) for name in "ab")
    watch(tmp_path, every=1).attach(with_it)
    with_it.train()
    without.train()
    theirs = dict(without.model.named_parameters())  # type: ignore[union-attr]
    assert all(torch.equal(value, theirs[name]) for name, value in with_it.model.named_parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("method", ["full", "pissa"])
def test_w0_may_be_read_from_the_published_checkpoint(method: str, base: str, tmp_path: Path) -> None:
    tables = []
    for name, given in (("copy", {}), ("file", {"base": base})):
        trainer = trainer_of(model_of(base, method), tmp_path / name)
        callback = watch(tmp_path, **given).attach(trainer)
        trainer.train()
        tables.append(callback.to_dataframe().drop(columns="seconds"))
    pd.testing.assert_frame_equal(*tables, rtol=1e-3)


class Tracker(TrainerCallback):
    """Stands before the callback, as the Trainer's own trackers do."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        self.seen.append({**logs, "at": state.global_step})


def test_an_attached_callback_reaches_trackers_and_keeps_the_trainers_own_log(base: str, tmp_path: Path) -> None:
    tracker = Tracker()
    trainer = trainer_of(model_of(base, "lora"), tmp_path, [tracker])
    callback = watch(tmp_path, every=2, log_matrices=True).attach(trainer)
    trainer.train()
    found = [entry for entry in tracker.seen if "spectra/count" in entry]
    rows = callback.to_dataframe()
    assert [entry["at"] for entry in found] == [2, 4, 6] == list(rows["step"])
    assert [entry["spectra/effective_rank"] for entry in found] == list(rows["effective_rank"])
    assert "spectra/count/layers.0.self_attn.q_proj" in found[0]
    losses = {entry["at"]: entry["loss"] for entry in tracker.seen if "loss" in entry}
    assert list(losses) == [2, 4, 6]
    assert list(rows["loss"]) == list(losses.values())
    assert sum("spectra/count" in entry for entry in trainer.state.log_history) == 3


def test_among_the_callbacks_of_a_trainer_it_writes_into_the_history(base: str, tmp_path: Path) -> None:
    callback = watch(tmp_path)
    trainer = trainer_of(model_of(base, "lora"), tmp_path, [callback])
    trainer.train()
    entries = {entry["step"]: entry for entry in trainer.state.log_history if "spectra/count" in entry}
    assert list(entries) == [3, 6]
    assert all("loss" in entry for entry in entries.values())


@pytest.mark.parametrize("method", ["full", "pissa"])
def test_a_resumed_training_has_the_rows_of_an_undisturbed_one(method: str, base: str, tmp_path: Path) -> None:
    tables = []
    for name in ("undisturbed", "resumed"):
        trainer = trainer_of(model_of(base, method), tmp_path / name, save_steps=4)
        callback = watch(tmp_path, every=2).attach(trainer)
        trainer.train()
        if name == "resumed":
            trainer = trainer_of(model_of(base, method), tmp_path / name, save_steps=4)
            callback = watch(tmp_path, every=2).attach(trainer)
            trainer.train(resume_from_checkpoint=str(tmp_path / name / "out" / "checkpoint-4"))
        tables.append(callback.to_dataframe().drop(columns="seconds"))
    assert list(tables[0]["step"]) == [2, 4, 6]
    pd.testing.assert_frame_equal(*tables)


def test_steps_are_optimiser_steps_under_gradient_accumulation(base: str, tmp_path: Path) -> None:
    trainer = trainer_of(
        model_of(base, "lora"), tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=4, max_steps=4
    )
    callback = watch(tmp_path, every=None, points=2, at=[3]).attach(trainer)
    trainer.train()
    assert list(callback.to_dataframe()["step"]) == [2, 3, 4]


def test_the_first_intruders_are_warned_of_once(base: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = trainer_of(model_of(base, "lora"), tmp_path)
    callback = watch(tmp_path, every=1, warn_at=1).attach(trainer)
    with caplog.at_level(logging.WARNING, logger="spectra"):
        trainer.train()
    [warning] = callback.warnings
    first = callback.to_dataframe().query("count > 0").iloc[0]
    assert warning.startswith(
        f"Step {first['step']}: {first['count']} intruder dimensions in {first['with_intruders']}"
    )
    assert warning in caplog.messages


def test_it_ends_the_training_when_asked_to(base: str, tmp_path: Path) -> None:
    trainer = trainer_of(model_of(base, "lora"), tmp_path, max_steps=50, save_strategy="no")
    callback = watch(tmp_path, every=1, stop_at=1).attach(trainer)
    trainer.train()
    counts = list(callback.to_dataframe()["count"])
    assert counts[-1] >= 1
    assert not any(counts[:-1])
    assert trainer.state.global_step == len(counts) < 50


@pytest.mark.parametrize("name", ["watched.parquet", "watched.csv"])
def test_the_rows_are_written_to_a_file(name: str, base: str, tmp_path: Path) -> None:
    trainer = trainer_of(model_of(base, "lora"), tmp_path)
    callback = watch(tmp_path, path=tmp_path / name).attach(trainer)
    trainer.train()
    read = pd.read_parquet if name.endswith("parquet") else pd.read_csv
    written = read(tmp_path / name)
    assert written["count"].tolist() == callback.to_dataframe()["count"].tolist()
    assert written["loss"].tolist() == pytest.approx(callback.to_dataframe()["loss"].tolist())
    assert len(read((tmp_path / name).with_stem("watched-matrices"))) == 2 * 14


def test_matrices_can_be_chosen(base: str, tmp_path: Path) -> None:
    trainer = trainer_of(model_of(base, "full"), tmp_path, max_steps=1)
    callback = watch(tmp_path, every=1, selection=Selection(roles="q_proj,v_proj", layers="1")).attach(trainer)
    trainer.train()
    assert list(callback.to_dataframe("matrices")["name"]) == ["layers.1.self_attn.q_proj", "layers.1.self_attn.v_proj"]


def test_the_factors_of_w0_are_computed_once_for_all_trainings(base: str, tmp_path: Path) -> None:
    made = []
    for name in "ab":
        trainer = trainer_of(model_of(base, "lora"), tmp_path / name, max_steps=1)
        watch(tmp_path).attach(trainer)
        trainer.train()
        files = sorted((tmp_path / "cache").glob("*-full.safetensors"))
        made.append({file.name: file.stat().st_ino for file in files})
    assert len(made[0]) == 14
    assert made[0] == made[1]


def test_the_three_lines_of_the_documentation_run(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SPECTRA_CACHE", str(tmp_path / "cache"))
    first = re.compile(r"```python\n(.*?)```", re.DOTALL)
    found, same = (
        first.search((Path(__file__).parents[2] / "docs" / name).read_text(encoding="utf-8"))
        for name in ("callback.md", "training-from-python.md")
    )
    assert found and same and found[1] == same[1]
    space: dict[str, Any] = {"trainer": trainer_of(model_of(base, "lora"), tmp_path)}
    exec(compile(found[1], "callback.md", "exec"), space)
    assert space["callback"].to_dataframe()["step"].tolist() == [6]
    assert "count" in capsys.readouterr().out


def test_joining_after_the_weights_have_changed_is_refused(base: str, tmp_path: Path) -> None:
    trainer = trainer_of(model_of(base, "full"), tmp_path)
    trainer.train()
    late = trainer_of(model_of(base, "full"), tmp_path)
    callback = watch(tmp_path)
    late.callback_handler.callbacks.append(callback)  # without any event that shows it the model
    late.state.stateful_callbacks = {}
    with pytest.raises(ModelError, match=r"joined at step 3, when the weights before training were gone\. Attach it"):
        late.train(resume_from_checkpoint=str(tmp_path / "out" / "checkpoint-3"))


class Spoiler(TrainerCallback):
    """Makes a weight NaN, as a diverged training does."""

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.fill_(float("nan"))


def test_lost_weights_are_named(base: str, tmp_path: Path) -> None:
    trainer = trainer_of(model_of(base, "lora"), tmp_path, [Spoiler()], max_steps=1)
    watch(tmp_path).attach(trainer)
    with pytest.raises(CheckpointError, match=r"lora_B.* in 'the model in memory' holds \d+ NaN"):
        trainer.train()


@pytest.mark.parametrize(
    ("place", "shapes", "expected"),
    [
        ("cuda:1", [(384, 1536), (4096, 1025)], "cuda:1"),
        ("cuda:1", [(384, 1536), (4096, 1024)], "cpu"),
        ("cuda:1", [], "cpu"),
        ("meta", [(4096, 4096)], "cpu"),
    ],
)
def test_a_gpu_scans_where_a_matrix_is_wide(place: str, shapes: list[tuple[int, int]], expected: str) -> None:
    assert device_for(torch.device(place), shapes) == expected


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(SpectrumError, match=r"every is 5 and points is 2\. Give one"):
        SpectraCallback(5, points=2)
    with pytest.raises(SpectrumError, match="every is -1"):
        SpectraCallback(-1)
    with pytest.raises(SpectrumError, match="epsilon"):
        SpectraCallback(epsilon=2.0)
    with pytest.raises(DataError, match=r"cannot be written to 'rows\.txt'\. Choose a name"):
        SpectraCallback(path="rows.txt")
