"""A held-out task takes the columns, splits and names of a sweep's; a file that is only held out is scored whole."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from spectra.cli.option_types import Task
from spectra.errors import DataError, ModelError
from spectra.facade.tasks import held_out_tasks
from spectra.forgetting import measure, open_held_out
from tests.forgetting import small_models as small


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def stars(tmp_path: Path) -> str:
    rows = [{"body": f"w{i % 40} w{i // 40} w3", "stars": i % 2, "id": i} for i in range(300)]
    return write(tmp_path / "stars.jsonl", rows)


def test_all_rows_of_a_held_out_file_are_scored(tmp_path: Path) -> None:
    file = write(tmp_path / "held.jsonl", [{"text": f"w{i % 40} w{i // 40} w1"} for i in range(300)])
    task = open_held_out(file)
    assert len(task.test_rows()) == 300
    assert len(measure(small.llama(), small.tokenizer(), task).values) == 300
    assert len(open_held_out(file, whole=False).test_rows()) == 30


def test_a_probe_keeps_a_part_to_be_fitted_on(stars: str) -> None:
    task = open_held_out({"path": stars, "text": "body", "label": "stars"})
    assert task.measure == "linear-probe" and len(task.test_rows()) == 30 and len(task.fit_rows()) == 240


def test_columns_splits_names_and_settings_are_taken_as_in_a_sweep(stars: str) -> None:
    fields = {"path": stars, "text": "body", "label": "stars", "label_names": ["bad", "good"], "test": 0.5}
    flat = open_held_out({**fields, "measure": "nearest-neighbour", "limit": 7})
    nested = open_held_out({"task": fields, "measure": "nearest-neighbour", "limit": 7})
    for task in (flat, nested):
        assert task.measure == "nearest-neighbour" and len(task.test_rows()) == 7
        assert task.task_data().label_names == ("bad", "good") and len(task.task_data().test) == 150
    with pytest.raises(DataError, match=r"A held-out task has no setting limits\. Use only: task, measure"):
        open_held_out({"task": fields, "limits": 3})


def test_texts_that_are_cut_are_said_and_counted() -> None:
    scores = measure(small.llama(), small.tokenizer(), small.prose(max_length=4))
    lengths = [len(text.split()) for text in small.texts(12)]
    assert scores.details["texts_cut"] == sum(length > 4 for length in lengths)
    assert "do not fit into 4 tokens and were cut" in scores.warnings[-1]


def test_a_masked_model_has_no_loss_over_next_tokens() -> None:
    with pytest.raises(ModelError, match="predicts a token from later ones"):
        measure(small.masked_bert(), small.tokenizer(framed=True), small.prose())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bbc-news:lm-loss", "bbc-news:lm-loss"),
        ("{path: a.csv, label: stars}", {"path": "a.csv", "label": "stars"}),
    ],
)
def test_a_task_option_is_a_name_or_its_fields(text: str, expected: Any) -> None:
    assert Task().convert(text, None, None) == expected


@pytest.mark.parametrize("text", ["{path: a, path: b}", "{path: [}", "{1: 2}", "missing.yaml"])
def test_a_malformed_task_option_is_a_usage_error(text: str) -> None:
    from spectra.cli.main import main

    outcome = CliRunner().invoke(main, ["forget", ".", "--heldout", text])
    assert outcome.exit_code == 2 and "--heldout" in outcome.output


def test_files_of_one_name_are_named_apart_and_one_is_named_once(tmp_path: Path) -> None:
    files = []
    for folder, words in (("a", "x y z"), ("b", "u v w")):
        (tmp_path / folder).mkdir()
        files.append(tmp_path / folder / "prose.txt")
        files[-1].write_text("\n\n".join(f"{words} {n}" for n in range(5)))
    named = held_out_tasks(
        [f"{files[0]}:lm-loss", {"task": f"{files[1]}:lm-loss"}, {"path": str(files[0]), "limit": 2}]
    )
    assert [one.name for one in named[:2]] == [f"prose:lm-loss ({folder}/prose.txt:lm-loss)" for folder in "ab"]
    assert len({one.name for one in named}) == 3
    again = held_out_tasks(named[:2])
    assert [one.name for one in again] == [one.name for one in named[:2]]
    with pytest.raises(DataError, match=r"is named twice with the same settings\. Name it once"):
        held_out_tasks([f"{files[0]}:lm-loss", named[0]])
