"""A model without weights: shapes only, on torch's meta device, to see what a method would train before it does."""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from spectra.data import TaskData, TaskKind
from spectra.data.splits import first
from spectra.errors import ModelError, SpectraError, first_five
from spectra.models import class_of, load_config
from spectra.models.base import load_tokenizer
from spectra.models.remote_code import trusts_remote_code
from spectra.training.adapt import METHODS, attach
from spectra.training.families import FAMILIES, examples, family_of
from spectra.training.metrics import FamilyName
from spectra.training.modules import linear_modules, targeted, trainable_parameters
from spectra.training.settings import TrainingSettings
from spectra.weights.matching.architecture import build_errors

SAMPLED_BATCHES = 20
# Initialisations that take factors out of W0 and therefore have no more of them than W0 has.
FROM_W0 = ("pissa", "milora", "olora", "corda")


@dataclass(frozen=True, eq=False)
class Bare:
    """A base with its task head, without weights.

    Attributes:
        base: Its name.
        family: The family that it makes with the task.
        model: On the meta device.
        parameters: All numbers of the model.
        multiplied: Numbers of the weight matrices that every token is multiplied with.
    """

    base: str
    family: FamilyName
    model: nn.Module
    parameters: int
    multiplied: int


@dataclass(frozen=True)
class Skeleton:
    """The size of a model and of what a method trains of it.

    Attributes:
        parameters: All numbers of the base model with its head.
        trainable: Numbers that the method trains.
        multiplied: Numbers of the weight matrices that every token is multiplied with.
        is_plain_lora: Whether the method is peft's LoRA, whose trained numbers grow evenly with the rank.
    """

    parameters: int
    trainable: int
    multiplied: int
    is_plain_lora: bool = False


def bare(base: str, kind: TaskKind, num_labels: int | None) -> Bare:
    """Build a base with the head of a task; no weight is read or allocated.

    Raises:
        ModelError: If the configuration of the base cannot be had, or it has no such head.
    """
    family = family_of(kind, base)
    config = load_config(base)
    with torch.device("meta"):
        try:
            if num_labels:
                config.num_labels = num_labels
            model: Any = class_of(FAMILIES[family].model_kind).from_config(
                config, trust_remote_code=trusts_remote_code()
            )
        except build_errors() as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise ModelError(
                f"'{base}' has no model of kind {FAMILIES[family].model_kind}: {reason}. Choose another base or task."
            ) from error
    modules = dict(model.named_modules())
    blocks = sum(modules[name].weight.numel() for name in linear_modules(model))
    head = model.get_output_embeddings()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Bare(base, family, model, parameters, blocks + (head.weight.numel() if head is not None else 0))


def skeleton(bare: Bare, settings: TrainingSettings) -> Skeleton:
    """What a method makes trainable of a base, whatever the learning rate, the seed and alpha.

    Raises:
        SpectraError: If the method cannot be put on this base.
    """
    _require_rank(bare.model, settings)
    method = METHODS[settings.method]
    if method.text_arguments and FAMILIES[bare.family].model_kind != "causal-lm":
        raise ModelError(
            f"Method '{method.name}' mixes plain text into the batches of a causal language model, and "
            f"'{bare.base}' is trained as {bare.family}. Leave the method out."
        )
    if method.rule is not None:
        method.rule(settings)  # refuses arguments without a meaning
    model = copy.deepcopy(bare.model)
    try:
        with torch.device("meta"):
            attached: Any = attach(model, settings, FAMILIES[bare.family].task_type)
    except SpectraError:
        raise
    except Exception as error:  # whatever peft says of what it was given
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise ModelError(
            f"{METHODS[settings.method].label(settings)} cannot be put on '{bare.base}': {reason}. "
            "Change its rank, target_modules or arguments."
        ) from error
    configurations = getattr(attached, "peft_config", {}).values()
    is_plain_lora = {type(one).__name__ for one in configurations} == {"LoraConfig"}
    return Skeleton(bare.parameters, trainable_parameters(attached), bare.multiplied, is_plain_lora)


def between(low: Skeleton, high: Skeleton, share: float) -> Skeleton:
    """The size at a rank between two others, where both are peft's LoRA.

    Args:
        low: The size at the smaller rank.
        high: The size at the larger rank.
        share: Where between them the rank lies, from 0 to 1.
    """
    return replace(low, trainable=low.trainable + round(share * (high.trainable - low.trainable)))


def _require_rank(model: nn.Module, settings: TrainingSettings) -> None:
    """Factors that are taken out of W0 are no more than W0 has."""
    init = settings.method if settings.method in FROM_W0 else settings.arguments.get("init_lora_weights")
    if settings.rank is None or not isinstance(init, str) or not init.startswith(FROM_W0):
        return
    modules = dict(model.named_modules())
    sizes = {name: min(modules[name].weight.shape) for name in targeted(model, settings.target_modules)}
    if small := [f"{name} ({size})" for name, size in sizes.items() if size < settings.rank]:
        raise ModelError(
            f"{METHODS[settings.method].label(settings)} starts from singular vectors of W0, and its rank is above the "
            f"dimension of {first_five(small)}. Choose a rank of at most {min(sizes.values())}."
        )


def padded_length(settings: TrainingSettings, task: TaskData) -> float:
    """Tokens per example after padding: the mean, over some batches, of the longest example in the batch."""
    family = family_of(task.kind, settings.base)
    if family == "causal-lm":
        return float(settings.max_length)  # texts are joined and cut into blocks, all of them full but the last
    rows = first(task.train, SAMPLED_BATCHES * settings.batch_size)
    encoded = examples(rows, family, load_tokenizer(settings.base), settings.max_length)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    if settings.group_by_length:
        lengths.sort()
    longest = [
        max(lengths[start : start + settings.batch_size]) for start in range(0, len(lengths), settings.batch_size)
    ]
    return sum(longest) / len(longest)
