"""The kind of a task is stated or certain; columns, labels and splits mean what they say, or are refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from spectra.data import load_task
from spectra.errors import DataError


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def labelled(labels: list[Any], column: str = "label") -> list[dict[str, Any]]:
    return [{"text": f"text {i}", column: label} for i, label in enumerate(labels)]


@pytest.mark.parametrize("column", ["lable", "sentiment", "Label", "id"])
def test_a_text_column_beside_others_is_no_plain_text(tmp_path: Path, column: str) -> None:
    file = write(tmp_path / "a.jsonl", labelled(["x", "y"] * 20, column))
    with pytest.raises(DataError, match=rf"have no 'label', and {column} may be labels or may not\. State the column"):
        load_task(file)
    assert load_task({"path": file, "kind": "causal-lm"}).kind == "causal-lm"
    assert load_task({"path": file, "label": column}).label_names == ("x", "y")


def test_a_named_column_that_is_not_there_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", labelled(["x", "y"] * 20))
    for role in ("label", "text", "source", "text_pair"):
        with pytest.raises(DataError, match=r"has no column 'senti' \(it has text, label\)"):
            load_task({"path": file, role: "senti"})


def test_columns_that_fit_two_kinds_are_refused(tmp_path: Path) -> None:
    row = {"text": "t", "label": "a", "source": "s", "target": "u"}
    file = write(tmp_path / "a.jsonl", [row | {"text": f"t{i}", "source": f"s{i}"} for i in range(20)])
    with pytest.raises(DataError, match=r"fit a classification and a task of sources and targets\. State kind"):
        load_task(file)
    assert load_task({"path": file, "kind": "seq2seq"}).kind == "seq2seq"


@pytest.mark.parametrize(
    "labels",
    [
        [f"{i / 7:.3f}" for i in range(60)],
        [i / 2 for i in range(60)],
        list(range(60)),
        [i % 40 * 5 for i in range(400)],
        [f"answer {i}" for i in range(60)],
    ],
)
def test_scores_never_become_classes(tmp_path: Path, labels: list[Any]) -> None:
    with pytest.raises(DataError, match=r"State `kind: regression` for scores, or `kind: classification`"):
        load_task(write(tmp_path / "a.jsonl", labelled(labels)))


def test_many_classes_that_repeat_are_classes(tmp_path: Path) -> None:
    assert len(load_task(write(tmp_path / "a.jsonl", labelled([i % 30 for i in range(600)]))).label_names) == 30


def test_stated_scores_are_numbers(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"t{i},{i / 4}\n" for i in range(40)))
    task = load_task({"path": str(tmp_path / "a.csv"), "kind": "regression"})
    assert (task.kind, task.label_names, task.outputs) == ("regression", (), 1)
    assert all(row["label"] == int(row["text"][1:]) / 4 for row in task.train)
    (tmp_path / "b.csv").write_text("text,label\na,high\n")
    with pytest.raises(DataError, match=r"line 2, column 'label' holds 'high' instead of a score"):
        load_task({"path": str(tmp_path / "b.csv"), "kind": "regression"})


def test_lists_of_labels_make_several_of_each_row(tmp_path: Path) -> None:
    lists = write(tmp_path / "a.jsonl", labelled([["b", "a"], ["c"], []] * 20))
    task = load_task(lists)
    assert (task.kind, task.label_names, task.outputs) == ("multi-label", ("a", "b", "c"), 3)
    for row in task.train:
        assert row["label"] == [[1, 1, 0], [0, 0, 1], [0, 0, 0]][int(row["text"].split()[1]) % 3]
    texts = write(tmp_path / "b.jsonl", labelled(["b;a", "c", ""] * 20))
    joined = load_task({"path": texts, "kind": "multi-label", "label_separator": ";"})
    assert joined.fingerprint == task.fingerprint


def test_whole_numbers_are_labels_of_one_kind_in_every_format(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f"t{i},{i % 2}.0\n" for i in range(20)))
    assert load_task(str(tmp_path / "a.csv")).label_names == ("0", "1")


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([2**53, 2**53 + 1], (str(2**53), str(2**53 + 1))),
        ([1, "1.0", 2.0, "02"], ("1", "2")),
        ([10**400, 10**400 + 1], (str(10**400), str(10**400 + 1))),
    ],
)
def test_whole_numbers_are_told_apart_to_the_last_digit(
    tmp_path: Path, labels: list[Any], names: tuple[str, ...]
) -> None:
    assert load_task(write(tmp_path / "a.jsonl", labelled(labels * 15))).label_names == names


@pytest.mark.parametrize("labels", [["neg", 1, "pos", 0], [True, "true", False, "false"], ["1", "2", "nan"]])
def test_one_column_does_not_hold_numbers_and_words(tmp_path: Path, labels: list[Any]) -> None:
    file = write(tmp_path / "a.jsonl", labelled(labels * 15))
    with pytest.raises(
        DataError, match=r"labels that are numbers \(.*\) and labels that are words .* Write every class"
    ):
        load_task(file)
    written = sorted({str(int(label) if isinstance(label, bool) else label) for label in labels})
    assert load_task({"path": file, "label_names": written}).label_names == tuple(written)


def test_a_split_whose_labels_are_written_in_another_way_is_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "a.jsonl", labelled([0, 1] * 20))
    test = write(tmp_path / "b.jsonl", [{"text": f"other {i}", "label": ["no", "yes"][i % 2]} for i in range(8)])
    with pytest.raises(DataError, match=r"numbers \(0, 1\) and labels that are words \(no, yes\)"):
        load_task({"path": train, "test": test})


def test_labels_that_look_alike_are_pointed_out(tmp_path: Path) -> None:
    task = load_task(write(tmp_path / "a.jsonl", labelled(["Good", "good", "caf\u00e9", "cafe\u0301", "tea"] * 40)))
    assert len(task.label_names) == 5
    assert "accents alone, and are different classes here: Good, good, cafe\u0301, caf\u00e9." in task.warnings[0]


def test_names_that_are_numbers_are_never_positions(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", labelled([0, 1, 2] * 20))
    with pytest.raises(DataError, match=r"not in `label_names` \['1', '2', '3'\]: 0\. Name every label"):
        load_task({"path": file, "label_names": [1, 2, 3]})
    assert load_task({"path": file, "label_names": [2, 0, 1]}).label_names == ("2", "0", "1")
    named = load_task({"path": file, "label_names": ["low", "mid", "high"]})
    assert all(row["label"] == int(row["text"].split()[1]) % 3 for row in named.test)
    assert named.label_names == ("low", "mid", "high")


def test_names_and_positions_are_not_mixed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", labelled(["low", 1] * 20))
    with pytest.raises(DataError, match=r"not in `label_names` \['low', 'high'\]: 1\."):
        load_task({"path": file, "label_names": ["low", "high"]})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("label_names", "abc", r"has label_names 'abc'\. Write a list"),
        ("label_names", [True, False], r"has True among its label_names\. .*in quotes"),
        ("label_names", ["a", "a"], r"Name every label once"),
        ("test", True, r"has test True\. Give a file, a number of rows"),
        ("test", -3, r"has test -3\."),
        ("validation", 1.5, r"has validation 1\.5\."),
        ("unit", "word", r"has unit 'word'"),
        ("text", 3, r"has text 3\. Give a text"),
        ("revision", "main", r"has revision, which is for hub data sets\. Remove it"),
        ("lable", "x", r"A task has no field lable\. Did you mean 'label'\?"),
    ],
)
def test_a_field_without_a_meaning_is_refused(field: str, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load_task({"path": "a.csv", field: value})


def test_a_field_of_another_kind_is_refused() -> None:
    with pytest.raises(DataError, match=r"is of kind causal-lm and names label"):
        load_task({"path": "a.csv", "kind": "causal-lm", "label": "stars"})
    with pytest.raises(DataError, match=r"Leave some to train on"):
        load_task({"path": "a.csv", "validation": 0.5, "test": 0.5})


def test_shares_are_shares_of_the_distinct_rows(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", labelled(["x", "y"] * 300))
    task = load_task({"path": file, "validation": 0.3, "test": 0.5})
    assert [len(split) for split in (task.train, task.validation, task.test)] == [120, 180, 300]


def test_a_validation_file_equal_to_the_test_file_is_refused(tmp_path: Path) -> None:
    train = write(tmp_path / "train.jsonl", labelled(["x", "y"] * 20))
    rows = [{"text": f"other {i}", "label": "xy"[i % 2]} for i in range(8)]
    test, same = write(tmp_path / "test.jsonl", rows), write(tmp_path / "dev.jsonl", rows)
    with pytest.raises(DataError, match=r"validation split of task 'train' is empty \(8 rows were read: 8 also in the"):
        load_task({"path": train, "test": test, "validation": same})
    with pytest.raises(DataError, match="for both validation and test"):
        load_task({"path": train, "test": test, "validation": test})
    with pytest.raises(DataError, match="train split of task 'test' is empty"):
        load_task({"path": test, "test": same, "validation": train})


def test_the_account_holds_every_row_and_warns_of_what_was_lost(tmp_path: Path) -> None:
    rows = labelled(["x", "y"] * 50)
    train = write(tmp_path / "t.jsonl", [*rows, *rows[:20], {"text": "text 99", "label": "x"}])
    test = write(tmp_path / "test.jsonl", [*rows[:5], {"text": "new", "label": "z"}])
    task = load_task({"path": train, "test": test, "validation": 10})
    whole, validation, tested = task.account
    assert (whole.read, whole.used, whole.set_aside) == (121, len(task.train), {"validation": 10})
    assert whole.dropped == {"repeated": 20, "with conflicting labels": 2, "also in the test split": 5}
    assert whole.read == whole.used + sum(whole.dropped.values()) + sum(whole.set_aside.values())
    assert (validation.read, validation.used) == (10, 10)
    assert tested.unseen == ("z",) and sum(tested.classes.values()) == tested.used == 6
    assert task.warnings == [
        "Task 't': 27 of 121 rows read for the train split (22.3%) are not used: 20 repeated, 2 with conflicting "
        "labels, 5 also in the test split.",
        "Task 't': the test split has labels that no training row has: z (1 of 6 rows).",
    ]


def test_equal_sources_with_different_targets_are_all_used(tmp_path: Path) -> None:
    rows = [{"source": f"question {i % 20}", "target": f"answer {i}"} for i in range(200)]
    task = load_task(write(tmp_path / "qa.jsonl", rows))
    assert len(task.train) + len(task.validation) + len(task.test) == 200
    assert not set(task.train["source"]) & set(task.test["source"])


def test_a_template_writes_the_source_out_of_columns(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"c": f"fact {i}", "q": "why?", "target": "so"} for i in range(30)])
    task = load_task({"path": file, "template": "{c}\nQ: {q}"})
    assert task.kind == "seq2seq" and task.train[0]["source"].endswith("\nQ: why?")
    with pytest.raises(DataError, match=r"has no column 'd'"):
        load_task({"path": file, "template": "{d}"})


def test_all_rows_of_a_file_that_is_only_held_out_are_test_rows(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"text": f"t {i}"} for i in range(300)])
    task = load_task(file, held_out=True)
    assert (len(task.train), len(task.validation), len(task.test)) == (0, 0, 300)
    assert len(load_task({"path": file, "test": 40}, held_out=True).test) == 40
