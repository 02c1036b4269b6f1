"""The task that a checkpoint was tuned on, scored example by example with the model's own head."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from spectra.data import TaskData
from spectra.errors import ModelError, first_five
from spectra.forgetting import Scores
from spectra.forgetting.batches import length_ordered
from spectra.forgetting.undisturbed import active_adapters, undisturbed
from spectra.models import LoadedModel
from spectra.statistics.scores import fingerprint
from spectra.training.families import FAMILIES, collator, encode, family_of, in_order_of
from spectra.training.metrics import FamilyName

# Name and unit of the loss of an example, and what its mean is taken from to be a score.
SHOWN: Mapping[str, tuple[str, str, float]] = {
    "classification": ("accuracy", "error rate", 1.0),
    "multi-label": ("share of right labels", "share of wrong labels", 1.0),
    "regression": ("negative mean squared error", "squared error", 0.0),
}
LANGUAGE_MODEL = ("negative loss", "nats per token", 0.0)


@dataclass(frozen=True, eq=False)
class OwnTask:
    """Which examples of the tuned task, and how they are cut.

    Attributes:
        data: The task.
        split: "test", or "validation" for every choice.
        limit: Rows to score, from the front of the split (whose order is random); None scores all.
        max_length: Tokens that an example is cut to; use the length of the training.
    """

    data: TaskData
    split: str = "test"
    limit: int | None = None
    max_length: int = 256

    @property
    def name(self) -> str:
        """What tables call it; a split other than the test split is named."""
        return self.data.name if self.split == "test" else f"{self.data.name} ({self.split})"

    def described(self) -> dict[str, Any]:
        """Everything that shapes the score, for finding an earlier measurement again."""
        return {
            "data": self.data.fingerprint,
            "split": self.split,
            "limit": self.limit,
            "max_length": self.max_length,
        }


def measure_own_task(loaded: LoadedModel, task: OwnTask, *, base: str, batch_size: int = 16) -> Scores:
    """Losses of a model on its own task, as the training of `spectra sweep` scores it, but kept per example.

    classification:  error (0 or 1) of the model's own head;  score: accuracy
    multi-label:     share of wrong labels;                   score: share of right ones
    regression:      squared error;                           score: the negative mean squared error
    otherwise:       mean negative log-likelihood of an example's labelled tokens (nats), weighted by their number;
                     score: the negative loss

    Args:
        loaded: The model; of a kind that the task can be scored with.
        task: Which examples.
        base: The base model, whose configuration tells how an example is laid out.
        batch_size: Sequences per forward pass.

    Raises:
        ModelError: If the model's head is of another kind or width, or was not saved.
    """
    family = require_fitting(loaded, task, base)
    data = in_order_of(task.data, loaded.model.config, loaded.reference)
    rows = getattr(data, task.split)
    chosen = rows if task.limit is None else rows.select(range(min(task.limit, len(rows))))
    encoding = encode(chosen, family, loaded.tokenizer, task.max_length)
    encoded = list(encoding.examples)
    collate = collator(family, loaded.tokenizer, loaded.model)
    reduced: dict[int, np.ndarray] = {}
    with undisturbed(loaded.model):
        for positions in length_ordered([row["input_ids"] for row in encoded], batch_size):
            batch = collate([encoded[position] for position in positions])
            on_device = {key: value.to(loaded.model.device) for key, value in batch.items()}
            labels = on_device.pop("labels") if FAMILIES[family].problem_type else on_device["labels"]
            logits = loaded.model(**on_device).logits
            halves = FAMILIES[family].reduce(logits, labels).double().cpu().numpy()
            reduced |= dict(zip(positions, halves, strict=True))
    values, weights = _losses(family, np.array([reduced[position] for position in range(len(encoded))]))
    name, unit, sign = SHOWN.get(family, LANGUAGE_MODEL)
    return Scores(
        task=task.name,
        metric=name,
        unit=unit,
        values=values,
        weights=weights,
        score_name=name,
        score=float(sign - np.average(values, weights=weights)),
        fingerprint=fingerprint(task.described(), [[row["input_ids"], row["labels"]] for row in encoded]),
        adapters=active_adapters(loaded.model),
        warnings=tuple(encoding.cut.warnings(f"Task '{task.name}'")),
    )


def has_base_score(task: OwnTask) -> bool:
    """Whether the untouched base can be scored: a classification head would be new, and its score luck."""
    return task.data.outputs is None


def on_validation(task: OwnTask) -> OwnTask:
    """The same task on the split that choices are made on."""
    return replace(task, split="validation")


def _losses(family: FamilyName, reduced: Float[np.ndarray, "n both"]) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each example and its weight."""
    first, second = np.split(reduced, 2, axis=1)
    if family in SHOWN:
        values = (first - second) ** 2 if family == "regression" else (first != second).astype(np.float64)
        return values.mean(axis=1), np.ones(len(values))
    kept = second[:, 0] > 0  # an example without a labelled token says nothing
    return -first[kept, 0] / second[kept, 0], second[kept, 0]


def require_fitting(loaded: LoadedModel, task: OwnTask, base: str) -> FamilyName:
    """The family of the task on this model, if the model carries the head for it.

    Raises:
        ModelError: If its head is of another kind, width or set of labels, or was not saved.
    """
    family = family_of(task.data.kind, base)
    if FAMILIES[family].model_kind != loaded.kind:
        raise ModelError(
            f"'{loaded.reference}' is a {loaded.kind} model, and the task '{task.data.name}' is scored with a "
            f"{FAMILIES[family].model_kind} one. Name the task that it was tuned on."
        )
    if loaded.random_head:
        raise ModelError(
            f"'{loaded.reference}' was saved without its head: {first_five(loaded.random_head)} are in no file and "
            "would be random, and so would every score. Save it with its head (modules_to_save), or leave out the task."
        )
    in_order_of(task.data, loaded.model.config, loaded.reference)  # refuses a head of other labels
    return family
