from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectra.data.rows import Counted
from spectra.data.splits import identity, split, without, without_duplicates
from spectra.errors import DataError

TEXTS = st.lists(st.text(min_size=1, max_size=6), min_size=12, max_size=40, unique=True)
PAIRS = st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("xyz")), min_size=20, max_size=40)


def rows(texts: Sequence[str]) -> Counted:
    return distinct([{"text": text} for text in texts])


def distinct(given: list[dict[str, Any]]) -> Counted:
    return without_duplicates(Counted.of(given))


@given(TEXTS, st.integers(0, 3))
def test_splits_are_disjoint_and_complete(texts: list[str], seed: int) -> None:
    pool = rows(texts)
    if len(pool.rows) < 8:
        return
    parts = split(pool, name="t", validation=3, test=4, seed=seed)
    assert [len(part.rows) for part in parts] == [len(pool.rows) - 7, 3, 4]
    assert sorted(identity(row) for part in parts for row in part.rows) == sorted(map(identity, pool.rows))


@given(TEXTS, st.randoms())
def test_splits_do_not_depend_on_the_order_of_the_rows(texts: list[str], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(texts)
    random.shuffle(shuffled)
    if len(rows(texts).rows) < len(texts):
        return
    assert split(rows(texts), name="t", validation=2, test=2) == split(rows(shuffled), name="t", validation=2, test=2)


@given(PAIRS)
def test_answers_to_one_question_stay_in_one_split_and_every_row_is_accounted_for(pairs: list[tuple[str, str]]) -> None:
    pool = distinct([{"source": source, "target": target} for source, target in pairs])
    assert len(pool.rows) == len(set(pairs)) and pool.read == len(pairs)
    try:
        parts = split(pool, name="t", validation=3, test=3)
    except DataError:
        return
    sources = [{row["source"] for row in part.rows} for part in parts]
    assert not sources[0] & sources[1] and not sources[0] & sources[2] and not sources[1] & sources[2]
    assert sum(len(part.rows) for part in parts) == len(pool.rows)
    train = parts[0]
    assert train.read == len(train.rows) + sum(train.dropped.values()) + sum(train.set_aside.values())


def test_another_seed_draws_another_test_split() -> None:
    texts = [f"text {i}" for i in range(100)]
    first, second = (split(rows(texts), name="t", validation=0, test=20, seed=seed)[2] for seed in (0, 1))
    assert first != second


def test_texts_that_differ_only_in_space_and_case_are_duplicates() -> None:
    kept = rows(["Good  film", "good film", "bad film"])
    assert kept.rows == [{"text": "Good  film"}, {"text": "bad film"}]
    assert (kept.read, kept.dropped) == (3, {"repeated": 1})


def test_a_text_with_two_labels_is_dropped_and_counted() -> None:
    disputed = [{"text": "a", "label": "x"}, {"text": "A", "label": "y"}, {"text": "b", "label": "x"}]
    kept = distinct([*disputed, {"text": "b", "label": "x"}])
    assert kept.rows == [{"text": "b", "label": "x"}]
    assert kept.dropped == {"repeated": 1, "with conflicting labels": 2}


def test_two_scores_of_one_text_are_two_examples() -> None:
    scored = [{"text": "a", "label": 0.5}, {"text": "a", "label": 0.75}, {"text": "a", "label": 0.5}]
    assert distinct(scored).rows == scored[:2]


def test_without_removes_what_another_split_holds() -> None:
    left = without(rows(["a", "b", "c"]), {"test": rows(["B"]), "validation": rows(["c "])})
    assert left.rows == [{"text": "a"}]
    assert left.dropped == {"also in the test split": 1, "also in the validation split": 1}


def test_too_few_rows_are_refused_with_the_figures() -> None:
    with pytest.raises(DataError, match=r"Task 't' has 2 distinct rows, too few to set aside 1 for validation and 1"):
        split(rows(["a", "b", "A"]), name="t", validation=1, test=1)
