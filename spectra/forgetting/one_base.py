"""One base in memory, adapters put on it in turn, and proof that it is the untouched base again afterwards."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import nn

from spectra.models import LoadedModel, ModelKind, attach, load_base

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

WIDTH_AS_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class OneBase:
    """Holds one base model at a time, in the architecture that was asked for last."""

    def __init__(self, reference: str, *, dtype: torch.dtype, device: str) -> None:
        self.reference = reference
        self.dtype, self.device = dtype, device
        self._loaded: LoadedModel | None = None
        self._labels: int | None = None
        self._bits: dict[str, int] = {}

    def untouched(self, kind: ModelKind, labels: int | None = None) -> LoadedModel:
        """The base as it was published; loaded again if it is of another kind or no longer what it was."""
        loaded = self._loaded
        if loaded is None or loaded.kind != kind or self._labels != labels or self._is_changed():
            self.release()
            loaded = load_base(self.reference, kind, num_labels=labels, dtype=self.dtype, device=self.device)
            self._loaded, self._labels, self._bits = loaded, labels, weight_bits(loaded.model)
        return loaded

    @contextmanager
    def wearing(self, adapter: Path, kind: ModelKind, labels: int | None = None) -> "Iterator[PeftModel]":
        """The base with an adapter on; taken off at the end.

        Some adapters change W0 itself when they are loaded (PiSSA subtracts its start from it), so taking one off
        proves nothing: `untouched` compares every weight before it hands the base out again.
        """
        tuned = attach(cast("PreTrainedModel", self.untouched(kind, labels).model), adapter)
        try:
            yield tuned
        finally:
            tuned.unload()

    def release(self) -> None:
        """Free the memory of the base."""
        self._loaded = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _is_changed(self) -> bool:
        return self._loaded is None or weight_bits(self._loaded.model) != self._bits


def weight_bits(model: nn.Module) -> dict[str, int]:
    """For each parameter and buffer, the sum of its bit patterns read as integers: any changed weight changes it."""
    return {
        name: int(tensor.detach().contiguous().view(WIDTH_AS_INTEGER[tensor.element_size()]).sum(dtype=torch.int64))
        for name, tensor in model.state_dict().items()
    }
