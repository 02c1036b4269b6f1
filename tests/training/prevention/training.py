"""Short trainings in a stranger's Trainer, looked at after every step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

from tests import tiny


def save_base(folder: Path, **changes: Any) -> str:
    """Wide enough (32) for ten leading vectors to be some of many."""
    torch.manual_seed(0)
    words = tiny.tokenizer()
    given: dict[str, Any] = {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 32, "initializer_range": 0.2,
        "pad_token_id": 0, **changes,
    }  # fmt: skip
    LlamaForCausalLM(LlamaConfig(**given)).save_pretrained(folder)
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


def model_of(base: str, **lora: Any) -> Any:
    """The base under a LoRA, or alone where `full` is given."""
    torch.manual_seed(1)
    model = LlamaForCausalLM.from_pretrained(base)
    if lora.pop("full", False):
        return model
    given = {"r": 3, "lora_alpha": 6, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **lora}
    return get_peft_model(model, LoraConfig(**given))


def trainer_of(model: Any, folder: Path, rows: Any = None, **changes: Any) -> Trainer:
    """A Trainer on random sentences, or on rows of one's own that it validates on, too."""
    given: dict[str, Any] = {
        "max_steps": 8, "learning_rate": 3e-2, "per_device_train_batch_size": 8, "save_steps": 4, "logging_steps": 4,
        "report_to": "none", "disable_tqdm": True, "seed": 0, "lr_scheduler_type": "constant", **changes,
    }  # fmt: skip
    arguments = TrainingArguments(output_dir=str(folder), **given)
    train = Sentences() if rows is None else rows
    return Trainer(model, arguments, train_dataset=train, eval_dataset=rows, processing_class=tiny.tokenizer())


class AfterEveryStep(TrainerCallback):
    def __init__(self, look: Callable[[int], None]) -> None:
        self.look = look

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.look(state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.look(state.global_step)


def updates_of(model: Any) -> dict[str, torch.Tensor]:
    """scaling * B @ A of every layer in float64, as the forward pass has it."""
    return {
        name: module.scaling["default"]
        * module.lora_B["default"].weight.detach().double()
        @ module.lora_A["default"].weight.detach().double()
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }


def bases_of(model: Any) -> dict[str, torch.Tensor]:
    """W0 of every layer in float64."""
    return {
        name: module.get_base_layer().weight.detach().double()
        for name, module in model.named_modules()
        if hasattr(module, "lora_A")
    }
