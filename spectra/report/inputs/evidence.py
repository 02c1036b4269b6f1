"""What a count and a score are held against: the null control of a trial, and chance or the untouched base."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from spectra.records.naming import trains_all_weights
from spectra.records.scan import Scan
from spectra.report.tables.numbers import absent
from spectra.statistics.proportions import wilson

if TYPE_CHECKING:
    import pandas as pd

LOW_RANK, NOISE = "random low rank", "dense gaussian"
WORDS: Mapping[str, str] = {
    LOW_RANK: "an update of equal norm and rank without training",
    NOISE: "noise of equal norm",
}
COUNT = "intruders.count"


def records(table: "pd.DataFrame") -> Iterator[dict[str, Any]]:
    """The rows of a table, with names as text."""
    for row in table.to_dict("records"):
        yield {str(name): value for name, value in row.items()}


@dataclass(frozen=True)
class NullCount:
    """Intruder dimensions when an update is replaced, matrix by matrix, by one that no training made.

    Attributes:
        control: A key of `WORDS`.
        count: Sum over all compared matrices.
    """

    control: str
    count: float


def null_counts(trials: "pd.DataFrame", controls: "pd.DataFrame") -> dict[str, NullCount]:
    """The null control of every trial that has one for all of its matrices.

    Args:
        trials: The trials table.
        controls: The table of verdicts on controls.
    """
    grouped = controls.groupby(["trial", "control"], sort=False)
    counts = grouped["is_intruder"].sum().to_dict()
    sizes = grouped["name"].nunique().to_dict()
    found = {}
    for trial, method, matrices in zip(trials["trial"], trials["method"], trials["matrices"], strict=True):
        for control in _preferred(str(method)):
            if (trial, control) in counts and sizes[trial, control] == matrices:
                found[str(trial)] = NullCount(control, float(counts[trial, control]))
                break
    return found


def null_of_scan(scan: Scan) -> NullCount | None:
    """The null control of a scan, where every matrix with a count has it."""
    for control in _preferred(scan.kind):
        lines = [
            [line for line in measure.nulls if line.null == control]
            for matrix in scan.matrices
            if (measure := matrix.measure(COUNT, scan.primary_side)) is not None
        ]
        if lines and len(lines) == len(scan.matrices) and all(lines):
            return NullCount(control, sum(found[0].mean for found in lines))
    return None


def _preferred(method: str) -> tuple[str, str]:
    """The controls that suit a method: noise of full rank for full fine-tuning, factors of its rank otherwise."""
    return (NOISE, LOW_RANK) if trains_all_weights(method) else (LOW_RANK, NOISE)


@dataclass(frozen=True)
class Bar:
    """The score that a trial has to beat before anything is said of it.

    Attributes:
        score: The higher of chance and the base's own.
        words: Which of the two it is.
    """

    score: float
    words: str


def bars(trials: "pd.DataFrame", row_account: "pd.DataFrame") -> dict[str, Bar]:
    """What each trial has to beat, where it is known: guessing among the task's labels, or the untouched base."""
    labels = row_account[(row_account["role"] == "task") & row_account["classes"].notna()]
    classes = labels.groupby("trial")["classes"].max().to_dict()
    found = {}
    for row in records(trials):
        known = []
        if row["task_metric"] == "accuracy" and classes.get(row["trial"], 0) > 1:
            known.append(Bar(1 / float(classes[row["trial"]]), "chance"))
        if not absent(row["base_task_score"]):
            known.append(Bar(float(row["base_task_score"]), "the untouched base"))
        if known:
            found[str(row["trial"])] = max(known, key=lambda bar: bar.score)
    return found


def beats(row: Mapping[str, Any], bar: Bar | None) -> bool:
    """Whether a trial's score lies above its bar, with the interval of an accuracy; True where that is unknown."""
    if bar is None:
        return True
    low, _ = score_interval(row)
    if low is not None:
        return low > bar.score
    score = row["task_score"]
    if absent(score) and bar.words == "chance":  # a validation score tells nothing of the base's test score
        score = row["validation_score"]
    return absent(score) or float(score) > bar.score


def score_interval(row: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The 95 % interval of an accuracy on the test split; none for other metrics."""
    score, examples = row["task_score"], row["task_examples"]
    if row["task_metric"] != "accuracy" or absent(examples) or absent(score):
        return None, None
    return wilson(float(score), float(examples))
