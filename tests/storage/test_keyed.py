from pathlib import Path
from typing import Any

import pytest

from spectra.storage.keyed import KeyedStore

QUESTION = [{"base": "a", "batch_size": 4}, {"task": "t"}]


@pytest.mark.parametrize(
    "other",
    [
        [{"base": "b", "batch_size": 4}, {"task": "t"}],
        [{"base": "a", "batch_size": 8}, {"task": "t"}],
        [{"base": "a", "batch_size": "4"}, {"task": "t"}],
        [{"task": "t"}, {"base": "a", "batch_size": 4}],
        [{"base": "a", "batch_size": 4, "dtype": None}, {"task": "t"}],
    ],
)
@pytest.mark.parametrize("on_disk", [True, False])
def test_a_question_that_differs_in_any_part_has_no_answer(tmp_path: Path, other: Any, on_disk: bool) -> None:
    store = KeyedStore(tmp_path / "run" if on_disk else None, "scores", owner="forget")
    store.keep(QUESTION, {"value": 1})
    assert store.find(other) is None
    assert store.find([{"batch_size": 4, "base": "a"}, {"task": "t"}]) == {"value": 1}


def test_another_process_finds_the_answer_in_the_folder(tmp_path: Path) -> None:
    KeyedStore(tmp_path / "run", "scores", owner="forget").keep(QUESTION, {"value": 1})
    assert KeyedStore(tmp_path / "run", "scores", owner="forget").find(QUESTION) == {"value": 1}
    assert KeyedStore(tmp_path / "run", "points", owner="forget").find(QUESTION) is None
    assert KeyedStore(None, "scores", owner="forget").find(QUESTION) is None


def test_what_a_killed_writer_left_of_an_answer_that_is_there_is_cleared(tmp_path: Path) -> None:
    KeyedStore(tmp_path / "run", "scores", owner="forget").keep(QUESTION, {"value": 1})
    [answer] = (tmp_path / "run" / "scores").iterdir()
    (answer.parent / f".{answer.name}.0123456789ab.partial").mkdir()
    assert KeyedStore(tmp_path / "run", "scores", owner="forget").find(QUESTION) == {"value": 1}
    assert [path.name for path in answer.parent.iterdir()] == [answer.name]
