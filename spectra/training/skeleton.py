"""A model without weights: shapes only, on torch's meta device, to count what a method would train."""

from dataclasses import dataclass

import torch
from transformers import PreTrainedConfig

from spectra.data import TaskData, TaskKind
from spectra.models import CLASSES
from spectra.models.base import load_tokenizer
from spectra.models.remote_code import trusts_remote_code
from spectra.training.adapt import attach
from spectra.training.cost import trainable_parameters
from spectra.training.driver import first
from spectra.training.families import FAMILIES, examples, family_of, load_config
from spectra.training.modules import linear_modules
from spectra.training.settings import TrainingSettings

SAMPLED_BATCHES = 20


@dataclass(frozen=True)
class Skeleton:
    """The size of a model and of what a method trains of it.

    Attributes:
        parameters: All numbers of the base model with its head.
        trainable: Numbers that the method trains.
        multiplied: Numbers of the weight matrices that every token is multiplied with.
    """

    parameters: int
    trainable: int
    multiplied: int


def skeleton(settings: TrainingSettings, kind: TaskKind, num_labels: int | None) -> Skeleton:
    """Count the parameters of a trial without reading or allocating a weight.

    Raises:
        ModelError: If the configuration of the base cannot be had.
    """
    family = FAMILIES[family_of(kind, settings.base)]
    config: PreTrainedConfig = load_config(settings.base)
    if num_labels:
        config.num_labels = num_labels
    with torch.device("meta"):
        model = CLASSES[family.model_kind].from_config(config, trust_remote_code=trusts_remote_code())
        modules = dict(model.named_modules())
        blocks = sum(modules[name].weight.numel() for name in linear_modules(model))
        head = model.get_output_embeddings()
        parameters = sum(parameter.numel() for parameter in model.parameters())
        trainable = trainable_parameters(attach(model, settings, family.task_type))
    return Skeleton(parameters, trainable, blocks + (head.weight.numel() if head is not None else 0))


def padded_length(settings: TrainingSettings, task: TaskData) -> float:
    """Tokens per example after padding: the mean, over some batches, of the longest example in the batch."""
    rows = first(task.train, SAMPLED_BATCHES * settings.batch_size)
    tokenizer = load_tokenizer(settings.base)
    encoded = examples(rows, family_of(task.kind, settings.base), tokenizer, settings.max_length)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    longest = [
        max(lengths[start : start + settings.batch_size]) for start in range(0, len(lengths), settings.batch_size)
    ]
    return sum(longest) / len(longest)
