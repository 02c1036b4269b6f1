"""Small models with perturbed LoRA adapters on disk, and what peft makes of them."""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import peft
import torch
from torch import Tensor
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    ViTConfig,
    ViTForImageClassification,
)

TOKENS = {"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


def llama() -> PreTrainedModel:
    torch.manual_seed(1)
    config = LlamaConfig(
        **TOKENS, hidden_size=24, intermediate_size=36, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, initializer_range=0.2, attention_bias=True, mlp_bias=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def gpt2() -> PreTrainedModel:
    torch.manual_seed(1)
    config = GPT2Config(**TOKENS, n_embd=24, n_layer=2, n_head=2, n_positions=16, initializer_range=0.2)
    return GPT2LMHeadModel(config).eval()


def vit() -> PreTrainedModel:
    torch.manual_seed(1)
    config = ViTConfig(
        hidden_size=24, intermediate_size=36, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4,
        initializer_range=0.2,
    )  # fmt: skip
    return ViTForImageClassification(config).eval()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the advice of peft and transformers about tiny models out of the test log."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


@dataclass(frozen=True)
class Case:
    """A base and an adapter on disk.

    Attributes:
        build: Makes the base again.
        base: Its folder.
        adapter: The adapter's folder.
    """

    build: Callable[[], PreTrainedModel]
    base: Path
    adapter: Path

    def loaded(self, adapter: Path) -> peft.PeftModel:
        """The base with an adapter, loaded by peft."""
        with quiet():
            return peft.PeftModel.from_pretrained(self.build(), adapter).eval()

    def merged(self, adapter: Path) -> Mapping[str, Tensor]:
        """The weights after peft's own merge."""
        return self.loaded(adapter).merge_and_unload().state_dict()

    def logits(self, adapter: Path) -> Tensor:
        """Outputs of the adapted model."""
        with torch.no_grad():
            return self.loaded(adapter)(torch.arange(3, 15)[None]).logits


def save(folder: Path, build: Callable[[], PreTrainedModel], size: float = 0.4, **settings: object) -> Case:
    """Attach an adapter, move every trainable number by `size` times a normal one, save base and adapter."""
    case = Case(build, folder / "base", folder / "adapter")
    with quiet():
        build().save_pretrained(case.base)
        model = peft.get_peft_model(build(), peft.LoraConfig(**{"r": 3, "lora_alpha": 5, **settings}))
        model.peft_config["default"].base_model_name_or_path = str(case.base)
        torch.manual_seed(2)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data += size * torch.randn_like(parameter)
        model.save_pretrained(case.adapter)
    return case
