"""Saving a trained model: an adapter that peft loads on the published base, or a full checkpoint; safetensors only."""

from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from spectra.models import output_names, write_label_names
from spectra.training.adapt import METHODS
from spectra.training.modules import head_modules
from spectra.training.settings import TrainingSettings


def initial_factors(model: nn.Module, settings: TrainingSettings) -> dict[str, Tensor]:
    """A copy of A and B as the method initialised them, where it took A and B out of W0; empty otherwise."""
    if not METHODS[settings.method].changes_base:
        return {}
    return {
        name: parameter.detach().clone().cpu()
        for name, parameter in model.named_parameters()
        if ".lora_A." in name or ".lora_B." in name
    }


def save_trained(
    model: Any, tokenizer: Any, initial: dict[str, Tensor], folder: Path, dtype: torch.dtype | None = None
) -> None:
    """Write the trained weights into an empty folder.

    Args:
        model: The trained model, adapters still attached.
        tokenizer: Written beside a full checkpoint, so that the folder stands alone.
        initial: What `initial_factors` returned before training.
        folder: Where to write.
        dtype: Storage of a full checkpoint; None stores the weights as they are. Adapters are small and stay so.
    """
    if not hasattr(model, "peft_config"):
        _save_full(model, folder, dtype)
        tokenizer.save_pretrained(folder)
        return
    if initial:
        _save_against_published_base(model, initial, folder)
    else:
        model.save_pretrained(folder, save_embedding_layers=False)
    if head_modules(model) and getattr(model.config, "problem_type", None) != "regression":
        write_label_names(folder, output_names(model.config))


def _save_full(model: Any, folder: Path, dtype: torch.dtype | None) -> None:
    """Write a full checkpoint, rounded to a coarser dtype if asked; the model itself is left as it is."""
    if dtype is None:
        model.save_pretrained(folder)
        return
    rounded = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in model.state_dict().items()
    }
    before = model.config.dtype
    try:
        model.config.dtype = dtype
        model.save_pretrained(folder, state_dict=rounded)
    finally:
        model.config.dtype = before


class KeepWeights(TrainerCallback):
    """Saves the weights at chosen steps while the training goes on."""

    def __init__(
        self,
        steps: Collection[int],
        saving: Callable[[int], AbstractContextManager[Path]],
        dtype: torch.dtype | None = None,
    ) -> None:
        """Say when and where.

        Args:
            steps: Optimiser steps.
            saving: For a step, the context that yields an empty folder and keeps it once it is whole.
            dtype: As for `save_trained`.
        """
        self._steps = frozenset(steps)
        self._saving = saving
        self._dtype = dtype
        self._save: Callable[[Any, Path], None] = lambda model, folder: None
        self._whole: Callable[[], Any] = lambda: None

    def begin(self, tokenizer: Any, initial: dict[str, Tensor], whole: Callable[[], Any]) -> None:
        """Learn what `save_trained` needs: `whole` gathers the model, in all processes at the same time."""
        self._save = lambda model, folder: save_trained(model, tokenizer, initial, folder, self._dtype)
        self._whole = whole

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save, if this is one of the steps."""
        if state.global_step not in self._steps:
            return
        model = self._whole()
        if state.is_world_process_zero:
            with self._saving(state.global_step) as folder:
                self._save(model, folder)


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
