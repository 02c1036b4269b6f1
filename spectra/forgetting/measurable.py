"""Whether models can be measured: each is loaded once and reads one text before anything is computed or kept."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from spectra.errors import ModelError, first_five
from spectra.forgetting.catalogue import HELD_OUT_MEASURES, fitting
from spectra.forgetting.held_out import HeldOut
from spectra.forgetting.loaded import needs_pretrained_head
from spectra.forgetting.one_base import OneBase
from spectra.forgetting.positions import require_positions
from spectra.forgetting.undisturbed import undisturbed
from spectra.models import (
    LoadedModel,
    ModelKind,
    adapter_labels,
    is_adapter,
    load_base,
    load_tuned,
    resolve_model,
    tuned_kind,
)
from spectra.weights.matching.architecture import build_errors

A_TEXT = "The quick brown fox jumps over the lazy dog."


def require_measurable(
    checkpoints: Sequence[Path],
    held_out: Sequence[HeldOut],
    base: OneBase,
    *,
    also: Callable[[LoadedModel], object] | None = None,
) -> None:
    """Refuse models that could not be measured, before anything is written: hours may lie between base and checkpoint.

    Cost: every checkpoint is loaded once more. The base stays in memory for the measurement.

    Args:
        checkpoints: Folders of adapters and of full checkpoints.
        held_out: What they are going to be measured on.
        base: Their base.
        also: What else has to hold of every tuned model; it raises where it does not.

    Raises:
        ModelError: If a model cannot be loaded, lacks a head that a measure needs, holds or gives numbers that are
            not finite, or cannot read a text.
        AdapterError: If an adapter does not fit the base.
    """
    for folder in sorted(checkpoints, key=is_adapter):  # adapters last: a full checkpoint takes the base's memory
        resolve_model(str(folder))  # which refuses files that nobody can read to an end
        require_heads(folder, held_out)
        with torch.random.fork_rng(devices=[]):
            _require_one(folder, held_out, base, also)


def require_heads(checkpoint: Path, held_out: Sequence[HeldOut]) -> None:
    """Refuse a checkpoint whose kind a measure cannot score.

    Raises:
        ModelError: Naming the measures that fit.
    """
    kind = tuned_kind(checkpoint)
    for task in held_out:
        if not HELD_OUT_MEASURES[task.measure].measures(kind):
            raise ModelError(
                f"'{checkpoint}' is a {kind} model, which '{task.measure}' of '{task.name}' cannot measure. "
                f"Use one of {', '.join(fitting(kind))}."
            )


def architecture(checkpoint: Path) -> tuple[ModelKind, int | None]:
    """Kind of a checkpoint's model, and the width of its adapter's classification head."""
    return tuned_kind(checkpoint), adapter_labels(checkpoint) if is_adapter(checkpoint) else None


def _require_one(
    folder: Path, held_out: Sequence[HeldOut], base: OneBase, also: Callable[[LoadedModel], object] | None
) -> None:
    kind, labels = architecture(folder)
    if not is_adapter(folder):
        base.release()
        tuned = load_tuned(folder, base=base.reference, dtype=base.dtype, device=base.device)
        _require_reading(tuned, held_out, also)
        del tuned
    untouched = base.untouched(kind, labels)
    _require_reading(untouched, held_out, None)
    if is_adapter(folder):
        random = untouched.random_head if labels is None else ()  # its own head replaces the base's
        with base.wearing(folder, kind, labels) as model:
            _require_reading(replace(untouched, model=model, reference=str(folder), random_head=random), held_out, also)
    if any(needs_pretrained_head(kind, task) for task in held_out):
        load_base(base.reference, "masked-lm", dtype=base.dtype, device=base.device)


def _require_reading(
    loaded: LoadedModel, held_out: Sequence[HeldOut], also: Callable[[LoadedModel], object] | None
) -> None:
    """Refuse a model with numbers that are not finite, and one that cannot read a text."""
    if also is not None:
        also(loaded)
    for name, tensor in loaded.model.state_dict().items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise ModelError(f"'{name}' of '{loaded.reference}' holds NaN or infinity. Check the training run.")
    for task in held_out:
        require_positions(loaded.model.config, loaded.tokenizer, task)
    text = next((text for task in held_out if task.data is not None for text in task.test_texts()[:1]), A_TEXT)
    try:
        with undisturbed(loaded.model):
            tokens = loaded.tokenizer(text, return_tensors="pt")["input_ids"][:, :8].to(loaded.model.device)
            decoder = {"decoder_input_ids": tokens[:, :1]} if loaded.model.config.is_encoder_decoder else {}
            output = loaded.model(input_ids=tokens, **decoder)[0] if tokens.numel() else tokens.float()
    except torch.OutOfMemoryError:
        raise
    except build_errors() as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelError(
            f"'{loaded.reference}' cannot read a text: {reason}. Check its configuration and its tokenizer."
        ) from error
    if not bool(output.isfinite().all()):
        raise ModelError(
            f"'{loaded.reference}' gives NaN or infinity for a text. Check the checkpoint for a diverged training run, "
            f"or measure in float32. The text begins with {first_five([text[:40]])}."
        )
