"""The score that learning rates are chosen by: the family's own, or ROUGE-L of what the model writes."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spectra.data import TaskData
from spectra.data.splits import first
from spectra.errors import ModelError
from spectra.forgetting import HeldOut, measure
from spectra.training.families import family_of
from spectra.training.metrics import WRITTEN, metric_of
from spectra.training.settings import Scoring

if TYPE_CHECKING:
    from spectra.training.driver import Evaluation


def score(model: Any, tokenizer: Any, task: TaskData, split: str, settings: Scoring) -> "Evaluation":
    """The score of a model on a split of its task, higher is better.

    Raises:
        ModelError: If ROUGE-L is asked for on a model that is no encoder-decoder.
    """
    from spectra.training.driver import Evaluation, evaluate  # a plan asks `require_writer` alone

    if settings.validation_metric != WRITTEN:
        return evaluate(model, tokenizer, task, split, settings)
    require_writer(task, settings)
    limit = settings.validation_examples if split == "validation" else settings.test_examples
    rows = first(getattr(task, split), limit)
    held_out = HeldOut("validation", "rouge-l", replace(task, test=rows), max_length=settings.max_length)
    scores = measure(model, tokenizer, held_out, batch_size=2 * settings.batch_size)
    return Evaluation("ROUGE-L", scores.score, len(rows))


def require_writer(task: TaskData, settings: Scoring) -> None:
    """Refuse a score that the task cannot have, ROUGE-L where no answer is written: before anything is trained.

    Raises:
        ModelError: If the task and the base are not those of an encoder-decoder.
        DataError: If the score is not defined for such a task.
    """
    family = family_of(task.kind, settings.base)
    metric_of(family, settings.validation_metric, task)
    if settings.validation_metric == WRITTEN and family != "seq2seq":
        raise ModelError(
            f"validation_metric is '{settings.validation_metric}', and '{settings.base}' on this task is {family}. "
            "Choose an encoder-decoder and a task with sources and targets, or remove validation_metric."
        )
