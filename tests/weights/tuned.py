"""Adapters made by peft itself, perturbed, saved, and merged by peft: the truth that the room is held against."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import peft
import torch
from families import FAMILIES
from safetensors.torch import load_file
from torch import Tensor


@dataclass(frozen=True)
class Tuned:
    """A base, an adapter on it, and what peft makes of the two, all on disk."""

    base: Path
    adapter: Path
    merged: Path

    def tensors(self, which: str) -> Mapping[str, Tensor]:
        """The tensors of "base" or "merged" as they are stored."""
        return load_file(getattr(self, which) / "model.safetensors")

    def delta(self, canonical: str, *, conv1d: bool) -> Tensor:
        """merged - base of the one stored weight whose name ends in a canonical name, as (d_out, d_in)."""
        base, merged = self.tensors("base"), self.tensors("merged")
        (name,) = [name for name in base if f".{name}".endswith(f".{canonical}.weight")]
        delta = merged[name].double() - base[name].double()
        return delta.T if conv1d else delta.flatten(1)


def perturb(model: torch.nn.Module) -> None:
    """Move every trainable number, so that no factor is zero."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3 * torch.randn_like(parameter))


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


def tune(folder: Path, family: str, config: peft.PeftConfig) -> Tuned:
    """Build the family's model, attach and perturb an adapter, save all three."""
    tuned = Tuned(folder / "base", folder / "adapter", folder / "merged")
    build = FAMILIES[family].build
    with quiet():
        build().save_pretrained(tuned.base)
        model = peft.get_peft_model(build(), config)
        perturb(model)
        model.save_pretrained(tuned.adapter)
        loaded = peft.PeftModel.from_pretrained(build(), tuned.adapter)
        loaded.merge_and_unload(safe_merge=True).save_pretrained(tuned.merged)
    return tuned
