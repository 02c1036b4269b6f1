"""Scores against scikit-learn's and scipy's on the same predictions, through the code that validates."""

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from spectra.data import TaskData, task_from_rows
from spectra.data.labels import order_in
from spectra.errors import DataError, ModelError
from spectra.training.driver import _score
from spectra.training.families import in_order_of
from spectra.training.metrics import METRICS, Metric, metric_of, register_metric

GENERATOR = np.random.default_rng(0)
TRUTH, GUESS = GENERATOR.integers(0, 2, 50), GENERATOR.integers(0, 2, 50)
MANY_TRUTH, MANY_GUESS = GENERATOR.integers(0, 2, (50, 3)), GENERATOR.integers(0, 2, (50, 3))
SCORES, GUESSED = GENERATOR.normal(size=50), GENERATOR.normal(size=50)


@pytest.mark.parametrize(
    ("name", "guess", "truth", "expected"),
    [
        ("accuracy", GUESS, TRUTH, accuracy_score(TRUTH, GUESS)),
        ("f1", GUESS, TRUTH, f1_score(TRUTH, GUESS)),
        ("f1-macro", GUESS, TRUTH, f1_score(TRUTH, GUESS, average="macro")),
        ("matthews", GUESS, TRUTH, matthews_corrcoef(TRUTH, GUESS)),
        ("f1-micro", MANY_GUESS, MANY_TRUTH, f1_score(MANY_TRUTH, MANY_GUESS, average="micro")),
        ("f1-macro", MANY_GUESS, MANY_TRUTH, f1_score(MANY_TRUTH, MANY_GUESS, average="macro")),
        ("exact-match", MANY_GUESS, MANY_TRUTH, accuracy_score(MANY_TRUTH, MANY_GUESS)),
        ("spearman", GUESSED, SCORES, spearmanr(SCORES, GUESSED).statistic),
        ("pearson", GUESSED, SCORES, pearsonr(SCORES, GUESSED).statistic),
        ("negative mean squared error", GUESSED, SCORES, -np.mean((SCORES - GUESSED) ** 2)),
    ],
)
def test_a_score_is_that_of_the_field(name: str, guess: np.ndarray, truth: np.ndarray, expected: float) -> None:
    halves = [half.reshape(len(half), -1).astype(float) for half in (guess, truth)]
    assert _score(np.concatenate(halves, axis=1), METRICS[name])["score"] == pytest.approx(expected, abs=1e-12)


def task(labels: tuple[str, ...]) -> TaskData:
    rows = [{"text": f"t{i}", "label": labels[i % len(labels)]} for i in range(12)]
    return task_from_rows(
        "t", "classification", train=rows[:6], validation=rows[6:9], test=rows[9:], label_names=labels
    )


def test_a_score_that_does_not_fit_is_refused_with_those_that_do() -> None:
    with pytest.raises(
        DataError, match=r"'spearman', and task 't' is scored as classification\. Use one of accuracy, f1"
    ):
        metric_of("classification", "spearman", task(("a", "b")))
    with pytest.raises(DataError, match=r"'f1' is defined for 2 labels, and task 't' has 3"):
        metric_of("classification", "f1", task(("a", "b", "c")))
    with pytest.raises(DataError, match="A correlation is undefined"):
        METRICS["spearman"].score(np.ones(4), np.arange(4.0))


def test_a_metric_of_the_users_own_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spectra.training.metrics.METRICS", dict(METRICS))
    register_metric(Metric("hits", ("classification",), lambda predicted, truth: float((predicted == truth).sum())))
    assert metric_of("classification", "hits", task(("a", "b"))).score(np.ones(3), np.ones(3)) == 3
    with pytest.raises(DataError, match="There is a metric 'hits' already"):
        register_metric(METRICS["accuracy"].__class__("hits", (), lambda predicted, truth: 0.0))


class Head:
    """A configuration with a head."""

    def __init__(self, *names: str) -> None:
        self.num_labels = len(names)
        self.id2label = dict(enumerate(names))


def test_labels_take_the_order_of_a_head_with_names() -> None:
    given = task(("bad", "fine", "good"))
    moved = in_order_of(given, Head("GOOD", "bad", "fine"), "ckpt")
    assert moved.label_names == ("good", "bad", "fine")
    for before, after in zip(given.test, moved.test, strict=True):
        assert given.label_names[before["label"]] == moved.label_names[after["label"]]
    assert in_order_of(given, Head("LABEL_0", "LABEL_1", "LABEL_2"), "ckpt") is given
    with pytest.raises(
        ModelError, match=r"tells x, y, z apart \(id2label\), and the task 't' has the labels bad, fine"
    ):
        in_order_of(given, Head("x", "y", "z"), "ckpt")
    with pytest.raises(ModelError, match="has a head of 2 outputs, and the task 't' needs 3"):
        in_order_of(given, Head("bad", "good"), "ckpt")


def test_several_labels_take_the_order_of_a_head_with_names() -> None:
    rows = [{"text": f"t{i}", "label": [["a"], ["b", "c"], []][i % 3]} for i in range(12)]
    given = task_from_rows("t", "multi-label", train=rows[:6], validation=rows[6:9], test=rows[9:])
    moved = in_order_of(given, Head("c", "a", "b"), "ckpt")
    assert list(moved.train["label"][:3]) == [[0, 1, 0], [1, 0, 1], [0, 0, 0]]


def test_numbers_on_either_side_stand_for_positions() -> None:
    assert order_in(("neg", "pos"), ("0", "1")) == [0, 1]
    assert order_in(("0", "1"), ("neg", "pos")) == [0, 1]
    assert order_in(("1", "0"), ("0", "1")) == [1, 0]
    assert order_in(("neg", "pos"), ("pos", "neutral")) is None
