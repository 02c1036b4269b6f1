"""Scores of a task, higher is better: what learning rates are chosen by, as the field's benchmarks compute them.

A metric sees the predictions and the truth of a whole split, for some are no mean over examples. Others are added with
`register_metric`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from spectra.data import TaskData
from spectra.errors import DataError
from spectra.registry import OWN, current_origin

FamilyName = Literal["classification", "regression", "multi-label", "causal-lm", "instruction", "seq2seq"]
Values = Float[np.ndarray, "n *labels"]

LANGUAGE: tuple[FamilyName, ...] = ("causal-lm", "instruction", "seq2seq")
CLASSES: tuple[FamilyName, ...] = ("classification",)
WRITTEN = "rouge-l"  # measured on what an encoder-decoder writes, not on predictions


@dataclass(frozen=True)
class Metric:
    """One score.

    Attributes:
        name: What a specification and the tables call it.
        families: The task families that have such predictions.
        score: Of predictions and truth: numbers of classes, scores, a 0 or 1 per label; of a language model the
            log-likelihood of each example and its number of tokens.
        most_labels: The number of classes that it is defined for; None for any.
    """

    name: str
    families: tuple[FamilyName, ...]
    score: Callable[[Values, Values], float]
    most_labels: int | None = None


# scipy.stats and sklearn.metrics are imported where a score is computed: together they cost a plan a second.


def _correlation(name: Literal["pearsonr", "spearmanr"]) -> Callable[[Values, Values], float]:
    def score(predicted: Values, truth: Values) -> float:
        from scipy import stats

        if len(set(predicted)) < 2 or len(set(truth)) < 2:
            raise DataError(
                "A correlation is undefined, for all predictions or all true scores are equal. "
                "Train longer or choose mean squared error."
            )
        return float(getattr(stats, name)(predicted, truth).statistic)

    return score


def _f1(average: str) -> Callable[[Values, Values], float]:
    def score(predicted: Values, truth: Values) -> float:
        from sklearn.metrics import f1_score

        return float(f1_score(truth, predicted, average=average, zero_division=0.0))

    return score


def _matthews(predicted: Values, truth: Values) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(truth, predicted))


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("accuracy", CLASSES, lambda predicted, truth: float((predicted == truth).mean())),
        # Of the label with number 1, as GLUE scores MRPC and QQP.
        Metric("f1", CLASSES, _f1("binary"), most_labels=2),
        Metric("f1-macro", (*CLASSES, "multi-label"), _f1("macro")),
        Metric("f1-micro", ("multi-label",), _f1("micro")),
        Metric("exact-match", ("multi-label",), lambda predicted, truth: float((predicted == truth).all(-1).mean())),
        Metric("matthews", CLASSES, _matthews),
        Metric("spearman", ("regression",), _correlation("spearmanr")),
        Metric("pearson", ("regression",), _correlation("pearsonr")),
        Metric(
            "negative mean squared error",
            ("regression",),
            lambda predicted, truth: -float(((predicted - truth) ** 2).mean()),
        ),
        Metric("negative loss", LANGUAGE, lambda likelihood, tokens: float(likelihood.sum() / tokens.sum())),
    )
}
ORIGINS: dict[str, str] = dict.fromkeys(METRICS, OWN)  # where each comes from
DEFAULT: dict[FamilyName, str] = {
    "classification": "accuracy",
    "regression": "negative mean squared error",
    "multi-label": "f1-micro",
    "causal-lm": "negative loss",
    "instruction": "negative loss",
    "seq2seq": "negative loss",
}


def register_metric(metric: Metric) -> None:
    """Make a score known by its name, for this process; a module that `--plugin` names does so in workers, too.

    Raises:
        DataError: If the name is taken.
    """
    if metric.name in METRICS or metric.name == WRITTEN:
        raise DataError(f"There is a metric '{metric.name}' already. Choose another name.")
    METRICS[metric.name] = metric
    ORIGINS[metric.name] = current_origin()


def metric_of(family: FamilyName, asked: str | None, task: TaskData) -> Metric:
    """The score that was asked for, or the family's own.

    Raises:
        DataError: If there is no such score, or it is not defined for such a task.
    """
    name = DEFAULT[family] if asked in (None, WRITTEN) else str(asked)
    fitting = [one.name for one in METRICS.values() if family in one.families]
    metric = METRICS.get(name)
    if metric is None or family not in metric.families:
        raise DataError(
            f"validation_metric is '{name}', and task '{task.name}' is scored as {family}. "
            f"Use one of {', '.join(fitting)}."
        )
    if metric.most_labels is not None and len(task.label_names) > metric.most_labels:
        raise DataError(
            f"'{name}' is defined for {metric.most_labels} labels, and task '{task.name}' has "
            f"{len(task.label_names)}. Use f1-macro."
        )
    return metric
