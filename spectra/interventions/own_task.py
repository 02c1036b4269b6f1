"""The task that a checkpoint was tuned on, scored example by example with the model's own head."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spectra.data import TaskData
from spectra.errors import ModelError
from spectra.forgetting import Scores
from spectra.forgetting.batches import length_ordered
from spectra.forgetting.undisturbed import active_adapters, undisturbed
from spectra.models import LoadedModel
from spectra.statistics.scores import fingerprint
from spectra.training.families import FAMILIES, FamilyName, collator, examples, family_of


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
    otherwise:       mean negative log-likelihood of an example's labelled tokens (nats), weighted by their number;
                     score: the negative loss

    Args:
        loaded: The model; of a kind that the task can be scored with.
        task: Which examples.
        base: The base model, whose configuration tells how an example is laid out.
        batch_size: Sequences per forward pass.

    Raises:
        ModelError: If the model's head is of another kind or width.
    """
    family = _fitting(loaded, task, base)
    encoded = list(_rows(task, family, loaded))
    collate = collator(family, loaded.tokenizer, loaded.model)
    sums = np.zeros((len(encoded), 2))
    with undisturbed(loaded.model):
        for positions in length_ordered([row["input_ids"] for row in encoded], batch_size):
            batch = collate([encoded[position] for position in positions])
            on_device = {key: value.to(loaded.model.device) for key, value in batch.items()}
            logits = loaded.model(**on_device).logits
            sums[positions] = FAMILIES[family].reduce(logits, on_device["labels"]).double().cpu().numpy()
    kept = sums[:, 1] > 0  # an example whose answer was cut away altogether says nothing
    scores, weights = sums[kept, 0] / sums[kept, 1], sums[kept, 1]
    is_accuracy = family == "classification"
    values = 1 - scores if is_accuracy else -scores
    return Scores(
        task=task.name,
        metric=FAMILIES[family].metric,
        unit="error rate" if is_accuracy else "nats per token",
        values=values,
        weights=weights,
        score_name=FAMILIES[family].metric,
        score=float(np.average(scores, weights=weights)),
        fingerprint=fingerprint(task.described(), [[row["input_ids"], row["labels"]] for row in encoded]),
        adapters=active_adapters(loaded.model),
    )


def has_base_score(task: OwnTask) -> bool:
    """Whether the untouched base can be scored: a classification head would be new, and its score luck."""
    return task.data.kind != "classification"


def on_validation(task: OwnTask) -> OwnTask:
    """The same task on the split that choices are made on."""
    return replace(task, split="validation")


def _rows(task: OwnTask, family: FamilyName, loaded: LoadedModel) -> Any:
    rows = getattr(task.data, task.split)
    chosen = rows if task.limit is None else rows.select(range(min(task.limit, len(rows))))
    return examples(chosen, family, loaded.tokenizer, task.max_length)


def _fitting(loaded: LoadedModel, task: OwnTask, base: str) -> FamilyName:
    """The family of the task on this model, if the model carries the head for it."""
    family = family_of(task.data.kind, base)
    if FAMILIES[family].model_kind != loaded.kind:
        raise ModelError(
            f"'{loaded.reference}' is a {loaded.kind} model, and the task '{task.data.name}' is scored with a "
            f"{FAMILIES[family].model_kind} one. Name the task that it was tuned on."
        )
    labels = getattr(loaded.model.config, "num_labels", 0)
    if family == "classification" and labels != len(task.data.label_names):
        raise ModelError(
            f"'{loaded.reference}' tells {labels} labels apart, and the task '{task.data.name}' has "
            f"{len(task.data.label_names)}. Name the task that it was tuned on."
        )
    return family
