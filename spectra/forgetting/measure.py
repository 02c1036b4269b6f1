"""One entry for every measure: the model is left as it was found, and what was switched on is written down."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

from torch import nn
from transformers import PreTrainedTokenizerBase

from spectra.errors import DataError
from spectra.forgetting.held_out import DEFAULT_MEASURE, NAMES, HeldOut
from spectra.forgetting.label_likelihood import label_likelihood
from spectra.forgetting.lm_eval import lm_eval_scores
from spectra.forgetting.lm_loss import lm_loss
from spectra.forgetting.probe import probe
from spectra.forgetting.pseudo_loss import pseudo_loss
from spectra.forgetting.rouge import rouge_l
from spectra.forgetting.undisturbed import active_adapters, undisturbed
from spectra.models import Model, ModelKind
from spectra.statistics.scores import Scores

Measure = Callable[..., Scores]

MEASURES: dict[str, Measure] = {
    "linear-probe": probe,
    "nearest-neighbour": probe,
    "lm-loss": lm_loss,
    "bits-per-byte": lm_loss,
    "pseudo-loss": pseudo_loss,
    "label-likelihood": label_likelihood,
    "rouge-l": rouge_l,
    "lm-eval": lm_eval_scores,
}
# Kinds of model that carry the head a measure needs; a probe needs none. The first is the default.
KINDS: dict[str, tuple[ModelKind, ...]] = {
    "linear-probe": ("encoder", "classification", "masked-lm", "causal-lm", "seq2seq"),
    "nearest-neighbour": ("encoder", "classification", "masked-lm", "causal-lm", "seq2seq"),
    "lm-loss": ("causal-lm",),
    "bits-per-byte": ("causal-lm",),
    "pseudo-loss": ("masked-lm",),
    "label-likelihood": ("causal-lm", "seq2seq"),
    "rouge-l": ("seq2seq", "causal-lm"),
    "lm-eval": ("causal-lm", "seq2seq"),
}
# Kinds of task that a measure scores; one that is not here takes the texts of any.
DATA_KINDS: dict[str, tuple[str, ...]] = {
    "linear-probe": ("classification",),
    "nearest-neighbour": ("classification",),
    "label-likelihood": ("classification",),
    "rouge-l": ("seq2seq",),
}


def register_measure(
    name: str, scores: Measure, *, kinds: tuple[ModelKind, ...], default_for: str | None = None
) -> None:
    """Make a held-out measure known by a name, for this process.

    Args:
        name: As in TASK:NAME.
        scores: Called with (model, tokenizer, held_out, batch_size=...); returns the loss of every example.
        kinds: Kinds of model that it can measure.
        default_for: A kind of task that it measures unless another is named.

    Raises:
        DataError: If the name is taken.
    """
    if name in MEASURES:
        raise DataError(f"There is a measure '{name}' already. Choose another name.")
    MEASURES[name] = scores
    KINDS[name] = kinds
    NAMES.append(name)
    if default_for is not None:
        DEFAULT_MEASURE[default_for] = name


def measure(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    held_out: HeldOut,
    *,
    batch_size: int = 16,
    device: str | None = None,
) -> Scores:
    """Score a model on one held-out task; see `measure_all`."""
    return measure_all(model, tokenizer, [held_out], batch_size=batch_size, device=device)[0]


def measure_all(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    held_out: Sequence[HeldOut],
    *,
    batch_size: int = 16,
    device: str | None = None,
) -> list[Scores]:
    """Score a model on held-out tasks; probes of the same texts share their forward passes.

    Modes, gradients and random states are afterwards those before; the same call gives the same scores.

    Args:
        model: With the head that each measure needs (see `KINDS`); adapters take part if they are switched on.
        tokenizer: The base's.
        held_out: Tasks and measures.
        batch_size: Sequences per forward pass. Padding changes rounding, so pair scores of equal batch size.
        device: Moves the model there first; None leaves it where it is.

    Raises:
        DataError: If a task does not fit its measure.
        ModelError: If the model lacks a head.
    """
    if device is not None:
        cast(nn.Module, model).to(device)  # transformers' own `to` is typed for a module
    features: dict[str, Any] = {}
    scores = []
    for task in held_out:
        shared = {"features": features} if MEASURES[task.measure] is probe else {}
        with undisturbed(model):
            measured = MEASURES[task.measure](model, tokenizer, task, batch_size=batch_size, **shared)
        scores.append(replace(measured, adapters=active_adapters(model)))
    return scores
