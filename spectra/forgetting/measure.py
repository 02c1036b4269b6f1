"""One entry for every measure: the model is left as it was found, and what was switched on is written down."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from spectra.forgetting.catalogue import HELD_OUT_MEASURES, HeldOutMeasure
from spectra.forgetting.held_out import HeldOut
from spectra.forgetting.positions import require_positions
from spectra.forgetting.undisturbed import active_adapters, undisturbed
from spectra.models import Model, ModelKind
from spectra.statistics.scores import Scores

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def register_measure(
    name: str, scores: Callable[..., Scores], *, kinds: tuple[ModelKind, ...], default_for: str | None = None
) -> None:
    """Make a held-out measure known by a name, for this process.

    Args:
        name: As in TASK:NAME.
        scores: Called with (model, tokenizer, held_out, batch_size=...); returns the loss of every example.
        kinds: Kinds of model that it can measure.
        default_for: A kind of task that it measures unless another is named.

    Raises:
        PluginError: If the name is taken.
    """
    defaults = () if default_for is None else (default_for,)
    HELD_OUT_MEASURES.register(
        HeldOutMeasure(name, "registered from Python", scores, model_kinds=kinds, default_for=defaults)
    )


def measure(
    model: Model,
    tokenizer: "PreTrainedTokenizerBase",
    held_out: HeldOut,
    *,
    batch_size: int = 16,
    device: str | None = None,
) -> Scores:
    """Score a model on one held-out task; see `measure_all`."""
    return measure_all(model, tokenizer, [held_out], batch_size=batch_size, device=device)[0]


def measure_all(
    model: Model,
    tokenizer: "PreTrainedTokenizerBase",
    held_out: Sequence[HeldOut],
    *,
    batch_size: int = 16,
    device: str | None = None,
) -> list[Scores]:
    """Score a model on held-out tasks; probes of the same texts share their forward passes.

    Modes, gradients and random states are afterwards those before; the same call gives the same scores.

    Args:
        model: With the head that each measure needs (see `HeldOutMeasure`); adapters take part if they are switched on.
        tokenizer: The base's.
        held_out: Tasks and measures.
        batch_size: Sequences per forward pass. Padding changes rounding, so pair scores of equal batch size.
        device: Moves the model there first; None leaves it where it is.

    Raises:
        DataError: If a task does not fit its measure.
        ModelError: If the model lacks a head, or positions for the length of the texts.
    """
    if device is not None:
        cast(nn.Module, model).to(device)  # transformers' own `to` is typed for a module
    features: dict[str, Any] = {}
    scores = []
    for task in held_out:
        require_positions(model.config, tokenizer, task)
        entry = HELD_OUT_MEASURES[task.measure]
        shared = {"features": features} if entry.shares_features else {}
        with undisturbed(model):
            measured = entry.scores(model, tokenizer, task, batch_size=batch_size, **shared)
        scores.append(replace(measured, adapters=active_adapters(model)))
    return scores
