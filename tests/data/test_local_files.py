"""Local files become tasks, and a malformed one is answered with file, line, column and remedy."""

import json
from pathlib import Path

import pandas as pd
import pytest

from spectra.data import TaskSpec, load_task
from spectra.errors import DataError


def sentiment_rows(n: int = 40) -> list[dict[str, str]]:
    return [{"text": f"text number {i}", "label": "good" if i % 2 else "bad"} for i in range(n)]


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_same_rows_make_the_same_task_in_every_format_and_order(tmp_path: Path) -> None:
    rows = sentiment_rows()
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    pd.DataFrame(rows).to_csv(tmp_path / "a.tsv", index=False, sep="\t")
    pd.DataFrame(rows).to_parquet(tmp_path / "a.parquet")
    write_jsonl(tmp_path / "a.jsonl", rows[::-1])
    tasks = [load_task(str(tmp_path / f"a.{suffix}")) for suffix in ("csv", "tsv", "parquet", "jsonl")]
    assert len({task.fingerprint for task in tasks}) == 1
    assert tasks[0].label_names == ("bad", "good")


def test_the_kind_follows_from_the_columns(tmp_path: Path) -> None:
    pairs = write_jsonl(tmp_path / "pairs.jsonl", [{"source": f"s{i}", "target": "t"} for i in range(9)])
    (tmp_path / "prose.txt").write_text("\n\n".join(f"Paragraph {i}\nand its second line." for i in range(9)))
    assert load_task(pairs).kind == "seq2seq"
    prose = load_task(str(tmp_path / "prose.txt"))
    assert prose.kind == "causal-lm"
    assert prose.train[0]["text"].endswith("\nand its second line.")


def test_other_column_names_and_pairs_of_texts_are_read(tmp_path: Path) -> None:
    rows = [{"premise": f"p{i}", "hypothesis": f"h{i}", "gold": str(i % 2)} for i in range(20)]
    file = write_jsonl(tmp_path / "nli.jsonl", rows)
    names = ("entailed", "not")
    spec = TaskSpec("nli", path=file, text="premise", text_pair="hypothesis", label="gold", label_names=names)
    task = load_task(spec)
    assert task.label_names == names
    assert set(task.train.column_names) == {"text", "text_pair", "label"}
    for row in task.train:
        assert row["label"] == int(row["text"][1:]) % 2


def test_integer_labels_are_ordered_as_numbers(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": i % 11} for i in range(60)]
    file = write_jsonl(tmp_path / "many.jsonl", rows)  # type: ignore[arg-type]
    task = load_task(file)
    assert task.label_names == tuple(str(i) for i in range(11))


def test_a_named_test_file_stays_out_of_training(tmp_path: Path) -> None:
    train = write_jsonl(tmp_path / "train.jsonl", sentiment_rows(40))
    test = write_jsonl(tmp_path / "test.jsonl", sentiment_rows(10))
    task = load_task(TaskSpec("t", path=train, test=test, validation=5))
    assert sorted(task.test["text"]) == sorted(row["text"] for row in sentiment_rows(10))
    assert len(task.validation) == 5 and len(task.train) == 25
    assert not set(task.train["text"]) & set(task.test["text"])


def test_an_unknown_field_of_a_mapping_is_named() -> None:
    with pytest.raises(DataError, match=r"A task has no field colour\. Use only: name, kind"):
        load_task({"name": "x", "path": "x.csv", "colour": "red"})


@pytest.mark.parametrize(
    ("suffix", "content", "message"),
    [
        (".csv", "text,label\na,b\nc\n", r"line 3 has 1 fields instead of 2\. Quote fields"),
        (".csv", 'text,label\n"a,b\n', r"line 2 is malformed: .*Correct the quotation marks\."),
        (".csv", "text,label\na,\n", r"line 2, column 'label' holds '' instead of a label"),
        (".csv", "body,label\na,b\n", r"line 2 has the columns body, label, but neither 'text' nor 'source'"),
        (".csv", "text,label\n", r"has no rows"),
        (".jsonl", '{"text": "a"}\n{"text": \n', r"line 2, column 10 is no JSON"),
        (".jsonl", "[1]\n", r"line 1 holds a list instead of an object"),
        (".jsonl", '{"text": "a"}\n{"text": 3}\n', r"line 2, column 'text' holds 3 instead of a text"),
        (".jsonl", '{"text": "a"}\n{"text": "  "}\n', r"line 2, column 'text' is empty"),
        (".jsonl", '{"text": "a"}\n{}\n', r"line 2 has no column 'text' \(it has no columns\)"),
        (".jsonl", '{"text": "a", "label": 0.5}\n', r"are numbers such as 0\.5: scores, or names of classes\. State"),
        (".jsonl", '{"text": "a", "label": null}\n', r"line 1, column 'label' holds None instead of a label"),
        (".jsonl", '{"text": "a", "text": "b"}\n', r"line 1 has the column text more than once"),
        (".jsonl", '{"text": "\\ud800"}\n', r"line 1, column 'text' holds half of a character \('\\ud800'\)"),
        (".jsonl", '{"text": "a", "label": "x\\ud800"}\n', r"line 1, column 'label' holds half of a character"),
        (".csv", "text,text,label\na,b,c\n", r"header of .* has the column text more than once"),
        (".txt", "one\ntwo\nthree\n", r"is one text, for it has no blank line\. State `unit: line`"),
        (".jsonl", '{"text": "a"}\n{"text": "b"}\n', r"has 2 distinct rows, too few to set aside 1 .* and 1"),
        (".txt", b"one\n\n\xff\n", r"line 3 is not UTF-8 \(byte 0xff\)\. Save the file as UTF-8\."),
        (".parquet", "no", r"is no readable Parquet file"),
        (".doc", "no", r"There is no task '.*\.doc'\. .*Name a file \(\.csv"),
    ],
)
def test_a_malformed_file_is_answered_with_place_and_remedy(
    tmp_path: Path, suffix: str, content: str | bytes, message: str
) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message):
        load_task(str(path))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(DataError, match=r"File 'nowhere\.csv' of task 'nowhere' does not exist"):
        load_task("nowhere.csv")


def test_a_single_label_is_refused(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "one.jsonl", [{"text": f"t{i}", "label": "a"} for i in range(9)])
    with pytest.raises(DataError, match=r"has the single label \['a'\]"):
        load_task(file)


def test_a_label_outside_the_given_names_is_named(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "t.jsonl", sentiment_rows())
    with pytest.raises(
        DataError, match=r"labels that are not in `label_names` \['good', 'fine'\]: bad\. Name every label"
    ):
        load_task(TaskSpec("t", path=file, label_names=("good", "fine")))
