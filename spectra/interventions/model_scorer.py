"""The models of an intervention and what they are scored on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch

from spectra.errors import ModelError
from spectra.forgetting import HeldOut
from spectra.forgetting.loaded import measure_loaded
from spectra.forgetting.measurable import require_measurable
from spectra.forgetting.one_base import OneBase
from spectra.interventions.own_task import OwnTask, has_base_score, measure_own_task, require_fitting
from spectra.interventions.points import Point
from spectra.models import LoadedModel, adapter_labels, is_adapter, load_base, load_tuned, tuned_kind


@dataclass(frozen=True, eq=False)
class ModelScorer:
    """Loads the base and the checkpoint, and scores whatever state they are in.

    Attributes:
        base: The base as it was named.
        checkpoint: Folder of the tuned checkpoint.
        held_out: The held-out tasks.
        own: The task that it was tuned on, or None.
        dtype: Arithmetic and storage of the weights.
        device: Where to measure.
        batch_size: Sequences per forward pass.
    """

    base: str
    checkpoint: Path
    held_out: Sequence[HeldOut]
    own: OwnTask | None
    dtype: torch.dtype
    device: str
    batch_size: int

    def require_measurable(self) -> None:
        """Refuse a base or a checkpoint that cannot be scored, before anything is.

        Raises:
            ModelError: If one cannot be loaded, or cannot be measured on a task.
        """
        fitting = None if self.own is None else partial(require_fitting, task=self.own, base=self.base)
        body = OneBase(self.base, dtype=self.dtype, device=self.device)
        require_measurable([self.checkpoint], self.held_out, body, also=fitting)
        body.release()
        if is_adapter(self.checkpoint):
            self.tuned()  # which refuses what cannot be merged

    def base_point(self) -> Point:
        """Scores of the untouched base, in the architecture of the checkpoint; its memory is freed afterwards."""
        labels = adapter_labels(self.checkpoint) if is_adapter(self.checkpoint) else None
        kind = tuned_kind(self.checkpoint)
        loaded = load_base(self.base, kind, num_labels=labels, dtype=self.dtype, device=self.device)
        return self.point(loaded, untouched=True)

    def tuned(self) -> LoadedModel:
        """The tuned model with W_tuned in its weights: an adapter is merged, so that an edit meets W_tuned itself.

        Raises:
            ModelError: If the adapter cannot be merged.
        """
        loaded = load_tuned(self.checkpoint, base=self.base, dtype=self.dtype, device=self.device)
        if not is_adapter(self.checkpoint):
            return loaded
        try:
            merged = cast(Any, loaded.model).merge_and_unload()
        except (AttributeError, NotImplementedError, ValueError, TypeError) as error:
            raise ModelError(
                f"peft cannot merge '{self.checkpoint}' into its base: {error}. Give an adapter that can be merged."
            ) from error
        return replace(loaded, model=merged)

    def point(self, loaded: LoadedModel, *, untouched: bool = False) -> Point:
        """Scores of a model as it stands."""
        scores = measure_loaded(loaded, self.held_out, pretrained=lambda: self._head, batch_size=self.batch_size)
        own = None
        if self.own is not None and (not untouched or has_base_score(self.own)):
            own = measure_own_task(loaded, self.own, base=self.base, batch_size=self.batch_size)
        return Point({one.task: one for one in scores}, own)

    @cached_property
    def _head(self) -> Any:
        """The base with its masked-LM head."""
        return load_base(self.base, "masked-lm", dtype=self.dtype, device=self.device).model
