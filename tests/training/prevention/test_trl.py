"""The rules and the callback in TRL's own SFTTrainer, where it is installed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM

from spectra import L2Init, MaxNorm, OPLoRA, Replay, SpectraCallback, SpectralBudget
from spectra.engine.cache import FactorCache
from spectra.training.prevention.batches import MixedBatches
from spectra.training.prevention.moment import Moment
from tests import tiny
from tests.training.prevention.training import AfterEveryStep, save_base, updates_of

trl = pytest.importorskip("trl")


def sft_trainer(base: str, folder: Path) -> Any:
    texts = [f"{word} w{number} {word} w{number % 7}" for number in range(4) for word in tiny.GOOD]
    return trl.SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(base),
        args=trl.SFTConfig(
            output_dir=str(folder), max_steps=4, learning_rate=3e-2, per_device_train_batch_size=4, report_to="none",
            disable_tqdm=True, max_length=16, save_strategy="no", logging_steps=2, bf16=False,
        ),
        train_dataset=Dataset.from_dict({"text": texts}),
        processing_class=tiny.tokenizer(),
        peft_config=LoraConfig(r=3, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM"),
    )  # fmt: skip


def test_rules_are_kept_and_batches_are_mixed_in_an_sft_trainer(tmp_path: Path) -> None:
    trainer = sft_trainer(save_base(tmp_path / "base"), tmp_path / "out")
    rules = [OPLoRA(3), L2Init(0.1), MaxNorm(0.2), SpectralBudget(0.9)]
    for rule in rules:
        rule.attach(trainer)
    Replay([" ".join(tiny.OTHER)], 0.5, max_length=8).attach(trainer)
    callback = SpectraCallback(every=2, cache=FactorCache(tmp_path / "cache")).attach(trainer)
    kept: list[bool] = []
    caps = rules[-1].caps(Moment())

    def look(step: int) -> None:
        deltas = updates_of(trainer.model)
        kept.append(all(float(torch.linalg.matrix_norm(deltas[name], 2)) <= cap for name, cap in caps.items()))

    trainer.add_callback(AfterEveryStep(look))
    trainer.train()
    assert kept == [True] * 5
    assert any(float(delta.norm()) > 0 for delta in updates_of(trainer.model).values())
    assert list(callback.to_dataframe()["step"]) == [2, 4]
    loader = trainer.callback_handler.train_dataloader
    assert isinstance(getattr(loader, "base_dataloader", loader).collate_fn, MixedBatches)
