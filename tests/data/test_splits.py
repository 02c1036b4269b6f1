from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectra.data.splits import identity, split, without, without_duplicates
from spectra.errors import DataError

TEXTS = st.lists(st.text(min_size=1, max_size=6), min_size=12, max_size=40, unique=True)


def rows(texts: Sequence[str]) -> list[dict[str, str]]:
    return [{"text": text} for text in texts]


@given(TEXTS, st.integers(0, 3))
def test_splits_are_disjoint_and_complete(texts: list[str], seed: int) -> None:
    distinct = {identity(row) for row in rows(texts)}
    if len(distinct) < 8:
        return
    parts = split(rows(texts), name="t", validation=3, test=4, seed=seed)
    assert [len(part) for part in parts] == [len(distinct) - 7, 3, 4]
    assert sorted(identity(row) for part in parts for row in part) == sorted(distinct)


@given(TEXTS, st.randoms())
def test_splits_do_not_depend_on_the_order_of_the_rows(texts: list[str], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(texts)
    random.shuffle(shuffled)
    if len({identity(row) for row in rows(texts)}) < len(texts):
        return
    assert split(rows(texts), name="t", validation=2, test=2) == split(rows(shuffled), name="t", validation=2, test=2)


def test_another_seed_draws_another_test_split() -> None:
    texts = [f"text {i}" for i in range(100)]
    first, second = (split(rows(texts), name="t", validation=0, test=20, seed=seed)[2] for seed in (0, 1))
    assert first != second


def test_texts_that_differ_only_in_space_and_case_are_duplicates() -> None:
    assert without_duplicates(rows(["Good  film", "good film", "bad film"])) == rows(["Good  film", "bad film"])


def test_a_text_with_two_labels_is_dropped() -> None:
    disputed = [{"text": "a", "label": "x"}, {"text": "A", "label": "y"}, {"text": "b", "label": "x"}]
    assert without_duplicates(disputed) == [{"text": "b", "label": "x"}]


def test_without_removes_what_another_split_holds() -> None:
    assert without(rows(["a", "b", "c"]), rows(["B"]), rows(["c "])) == rows(["a"])


def test_too_few_rows_are_refused_with_the_figures() -> None:
    with pytest.raises(DataError, match=r"Task 't' has 2 distinct rows, too few to set aside 1 for validation and 1"):
        split(rows(["a", "b", "A"]), name="t", validation=1, test=1)
