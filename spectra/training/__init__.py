"""Training: the same path for full fine-tuning and every adapter method, and a callback for anybody's Trainer."""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = ["SpectraCallback"]

if TYPE_CHECKING:
    from spectra.training.callback import SpectraCallback


def __getattr__(name: str) -> Any:
    # On first use: plans are made without loading transformers' Trainer.
    if name == "SpectraCallback":
        return importlib.import_module("spectra.training.callback").SpectraCallback
    raise AttributeError(f"module 'spectra.training' has no attribute '{name}'")
