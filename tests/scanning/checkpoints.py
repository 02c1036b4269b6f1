"""A tiny Llama with LoRA adapters and a fully tuned copy on disk, for the tests of the scan."""

from dataclasses import dataclass
from pathlib import Path

import peft
import torch
from transformers import LlamaConfig, LlamaForCausalLM

# Wide enough that the Krylov methods have room (8 * (k + 6) at k = 4), small enough to build in a moment.
CONFIG = LlamaConfig(
    vocab_size=64, hidden_size=96, intermediate_size=160, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=4, max_position_embeddings=32, initializer_range=0.2,
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoints:
    base: Path
    adapters: tuple[Path, ...]
    merged: tuple[Path, ...]
    full: Path


def _model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(CONFIG)


def save(folder: Path) -> Checkpoints:
    base = folder / "base"
    _model().save_pretrained(base)
    adapters, merged = [], []
    for seed, size in ((1, 0.02), (2, 0.4)):
        model = peft.get_peft_model(_model(), peft.LoraConfig(r=3, lora_alpha=6, target_modules="all-linear"))
        model.peft_config["default"].base_model_name_or_path = str(base)
        torch.manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = size * torch.randn_like(parameter)
        adapters.append(folder / f"adapter-{seed}")
        model.save_pretrained(adapters[-1])
        merged.append(folder / f"merged-{seed}")
        model.merge_and_unload().save_pretrained(merged[-1])
    full = _model()
    torch.manual_seed(3)
    for parameter in full.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    full.save_pretrained(folder / "full")
    return Checkpoints(base, tuple(adapters), tuple(merged), folder / "full")
