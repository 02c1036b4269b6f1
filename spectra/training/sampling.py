"""The order of the training examples, with examples of similar length in a batch: little of it is then padding."""

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

WINDOW = 50  # batches that are drawn together and sorted by length; what comes together is still left to chance


class SimilarLengths(Sampler[int]):
    """A random order whose consecutive batches hold examples of similar length.

    The examples are shuffled, sorted by length within windows of 50 batches, and the batches are shuffled. The order is
    drawn by the seed and the epoch alone, so all methods of a seed see the same batches, and so does a training that
    goes on. transformers' own `group_by_length` draws from the global generator, which each method leaves elsewhere.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        """Say what is sorted.

        Args:
            lengths: Tokens of each example.
            batch_size: Examples that are padded to one length.
            seed: Of the order.
        """
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw another order; accelerate calls it before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """The number of examples."""
        return len(self._lengths)

    def __iter__(self) -> Iterator[int]:
        """The places of the examples, in this epoch's order."""
        drawn = torch.Generator().manual_seed(self._seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self), generator=drawn).tolist()
        window = WINDOW * self._batch_size
        order = [
            place
            for start in range(0, len(order), window)
            for place in sorted(order[start : start + window], key=self._lengths.__getitem__)
        ]
        batches = [order[start : start + self._batch_size] for start in range(0, len(order), self._batch_size)]
        rest = [batches.pop()] if batches and len(batches[-1]) < self._batch_size else []  # stays last
        for place in torch.randperm(len(batches), generator=drawn).tolist():
            yield from batches[place]
        for batch in rest:
            yield from batch
