"""The score of a model that learnt nothing: a trial that does not beat it says nothing of what learning does."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spectra.data import TaskData
from spectra.runs import BASE_TASK, Run
from spectra.study.specification import StudySpecification

CORRELATIONS = ("matthews", "pearson", "spearman")
STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Bar:
    """What a validation score has to exceed.

    Attributes:
        score: The score; None where none is known, and then no trial is left out for it.
        reason: Where it comes from.
    """

    score: float | None
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def bar_of(run: Run, specification: StudySpecification, task: TaskData) -> Bar:
    """The bar of a study, from its base, or from the labels of the validation split."""
    base = (run.base_result(BASE_TASK) or {}).get("base_task_score")
    metric = _metric(run)
    if base is not None:
        return Bar(float(base), f"{metric or 'score'} of the untuned base")
    rows = task.validation
    limit = specification.validation_examples
    labels = list(rows["label"][:limit]) if "label" in rows.column_names else []
    if metric == "accuracy" and labels:
        share, n = Counter(labels).most_common(1)[0][1] / len(labels), len(labels)
        bar = min(share + STANDARD_ERRORS * float(np.sqrt(share * (1 - share) / n)), 1.0)
        return Bar(bar, f"share {share:.4g} of the commonest class of {n} validation examples, plus 2 standard errors")
    if metric == "negative mean squared error" and labels:
        return Bar(-float(np.var(labels)), "the negative variance of the validation labels")
    if any(word in metric for word in CORRELATIONS):
        return Bar(0.0, "a correlation of 0")
    return Bar(None, f"no score of a model that learnt nothing is known for {metric or 'this task'}")


def _metric(run: Run) -> str:
    found = (folder.metrics or {} for folder in run.trials())
    return next((str(metrics["task_metric"]) for metrics in found if metrics.get("task_metric")), "")
