"""Orders of examples: drawn by seed and epoch alone, with batches of similar length."""

import random

import pytest

from spectra.training.sampling import SimilarLengths


def order(sampler: SimilarLengths, epoch: int = 0) -> list[int]:
    sampler.set_epoch(epoch)
    return list(sampler)


def padding(lengths: list[int], places: list[int], batch: int) -> float:
    batches = [[lengths[place] for place in places[start : start + batch]] for start in range(0, len(places), batch)]
    return 1 - sum(lengths) / sum(max(one) * len(one) for one in batches)


@pytest.mark.parametrize("examples", [0, 1, 3, 4, 5, 64, 1001])
def test_every_example_comes_once_an_epoch(examples: int) -> None:
    sampler = SimilarLengths([1 + place % 7 for place in range(examples)], 4, seed=0)
    assert len(sampler) == examples
    assert sorted(order(sampler)) == sorted(order(sampler, 3)) == list(range(examples))


def test_the_order_is_that_of_the_seed_and_the_epoch() -> None:
    lengths = [random.Random(0).randint(3, 60) for _ in range(200)]
    one = SimilarLengths(lengths, 4, seed=1)
    assert order(one) == order(SimilarLengths(lengths, 4, seed=1))
    orders = [order(one), order(one, 1), order(SimilarLengths(lengths, 4, seed=2))]
    assert len({tuple(each) for each in orders}) == 3


def test_little_of_a_batch_is_padding_and_long_ones_come_at_any_time() -> None:
    drawn = random.Random(0)
    lengths = [min(64, 3 + int(drawn.expovariate(1 / 20))) for _ in range(1000)]
    shuffled = list(range(1000))
    drawn.shuffle(shuffled)
    places = order(SimilarLengths(lengths, 16, seed=0))
    assert padding(lengths, places, 16) < 0.05 < 0.4 < padding(lengths, shuffled, 16)
    longest = [max(lengths[place] for place in places[start : start + 16]) for start in range(0, 992, 16)]
    assert longest != sorted(longest) and longest != sorted(longest, reverse=True)
