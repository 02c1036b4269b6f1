"""Saving a trained model: an adapter that peft loads on the published base, or a full checkpoint; safetensors only."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from spectra.training.adapt import METHODS
from spectra.training.settings import TrainingSettings


def weights_kind(settings: TrainingSettings) -> Literal["adapter", "checkpoint"]:
    """What `save_trained` writes for these settings."""
    return "checkpoint" if METHODS[settings.method].config is None else "adapter"


def initial_factors(model: nn.Module, settings: TrainingSettings) -> dict[str, Tensor]:
    """A copy of A and B as the method initialised them, where it took A and B out of W0; empty otherwise."""
    if not METHODS[settings.method].changes_base:
        return {}
    return {
        name: parameter.detach().clone().cpu()
        for name, parameter in model.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }


def save_trained(model: Any, tokenizer: Any, initial: dict[str, Tensor], folder: Path) -> None:
    """Write the trained weights into an empty folder.

    Args:
        model: The trained model, adapters still attached.
        tokenizer: Written beside a full checkpoint, so that the folder stands alone.
        initial: What `initial_factors` returned before training.
        folder: Where to write.
    """
    if not hasattr(model, "peft_config"):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    elif initial:
        _save_against_published_base(model, initial, folder)
    else:
        model.save_pretrained(folder, save_embedding_layers=False)


def _save_against_published_base(model: Any, initial: dict[str, Tensor], folder: Path) -> None:
    """Save a PiSSA-like adapter as an ordinary LoRA adapter of twice the rank on the published W0.

    Training ran on W0 - s B_0 A_0, so that  W_tuned = W0 + s (B A - B_0 A_0) = W0 + s [B, -B_0] [A; A_0].
    peft's own conversion does the same but leaves out the task head (its `subtract_mutated_init` returns the
    factors only).
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    config = model.peft_config["default"]
    before = (config.r, config.lora_alpha, config.init_lora_weights)
    factors = [parameter for parameter in model.parameters() if names[id(parameter)] in initial]
    trained = [parameter.data for parameter in factors]
    try:
        for parameter in factors:
            name = names[id(parameter)]
            start = initial[name].to(parameter.data)
            parameter.data = (
                torch.cat([parameter.data, start], dim=0)
                if ".lora_A." in name
                else torch.cat([parameter.data, -start], dim=1)
            )
        # alpha grows with the rank, so that alpha/r stays; with rsLoRA it would have to grow with its root
        config.r, config.lora_alpha, config.init_lora_weights = 2 * before[0], 2 * before[1], True
        model.save_pretrained(folder, save_embedding_layers=False)
    finally:
        config.r, config.lora_alpha, config.init_lora_weights = before
        for parameter, value in zip(factors, trained, strict=True):
            parameter.data = value
