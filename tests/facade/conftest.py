"""A tiny language model with an adapter, a fully tuned copy, texts and a finished sweep."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import peft
import pytest
import torch
from transformers import LlamaForCausalLM

import spectra
from spectra.study import advised
from tests import tiny


@pytest.fixture(scope="package")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """What the examples in the docstrings and on the pages of the documentation name."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPECTRA_CACHE", str(folder / "cache"))
        base = tiny.save_model(folder / "base", "llama")
        texts = tiny.save_prose(folder / "prose.jsonl", rows=60)
        task = tiny.save_sentiment(folder / "sentiment.jsonl", rows=80)
        heldout = tiny.save_sentiment(folder / "heldout.jsonl", rows=80, seed=5)
        encoder = tiny.save_model(folder / "encoder", "bert")
        specification = {
            "base": encoder,
            "task": task,
            "methods": [{"method": "lora", "rank": [2], "alpha": [4], "learning_rate": [3e-2]}],
            "heldout": [f"{heldout}:nearest-neighbour"],
            "steps": 2,
            "k": 4,
            "batch_size": 8,
            "max_length": 16,
            "keep": "all",
        }
        spectra.run_sweep(specification, folder / "run", executor="inline", report=False)
        with pytest.MonkeyPatch.context() as quicker:  # the thresholds of the advice take longer than all the rest
            quicker.setattr(advised, "advise", partial(spectra.advise, draws=1, measure=False))
            (folder / "inputs").mkdir()
            questions = {**tiny.study(folder / "inputs"), "trajectory": 0, "steps": 2}
            spectra.run_study(questions, folder / "studied", executor="inline")
        yield SimpleNamespace(
            spectra=spectra,
            folder=folder,
            base=base,
            adapter=_adapter(base, folder / "adapter"),
            other_adapter=_adapter(base, folder / "other", seed=3),
            full=_full(base, folder / "full"),
            texts=texts,
            task=task,
            specification=specification,
            questions=questions,
            studied=str(folder / "studied"),
            run=str(folder / "run"),
        )


def _adapter(base: str, folder: Path, seed: int = 1) -> str:
    """LoRA of rank 2, large enough to have intruders."""
    torch.manual_seed(seed)
    config = peft.LoraConfig(r=2, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM")
    model = peft.get_peft_model(LlamaForCausalLM.from_pretrained(base), config)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = 0.5 * torch.randn_like(parameter)
    model.peft_config["default"].base_model_name_or_path = base
    model.save_pretrained(folder)
    return str(folder)


def _full(base: str, folder: Path) -> str:
    torch.manual_seed(2)
    model = LlamaForCausalLM.from_pretrained(base)
    for parameter in model.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return str(folder)
