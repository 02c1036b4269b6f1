"""Training batches of which a share is other text."""

import hashlib
import json
import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from transformers import TrainerCallback

Example = dict[str, Any]


class MixedBatches:
    """A collator that replaces a share of every batch; an object, so that the processes of a loader can have it."""

    def __init__(
        self, collate: Callable[[list[Example]], Any], share: float, seed: int, blocks: Sequence[Example]
    ) -> None:
        """Say what is mixed.

        Args:
            collate: What makes tensors of a list of examples.
            share: Of the examples of a batch that is replaced.
            seed: Of the draws.
            blocks: What they are replaced by.
        """
        self.collate, self.share, self.seed, self.blocks = collate, share, seed, blocks

    def __call__(self, batch: list[Example]) -> Any:
        return self.collate(self.mixed(batch))

    def mixed(self, batch: Sequence[Example]) -> list[Example]:
        """The batch with its last examples replaced: their order is random already."""
        drawn = random.Random(_seed(self.seed, batch))
        wanted = self.share * len(batch)
        count = math.floor(wanted) + (drawn.random() < wanted - math.floor(wanted))
        columns = {*batch[0], "labels"} if batch else set()
        replayed = [
            {name: value for name, value in block.items() if name in columns}
            for block in drawn.choices(self.blocks, k=count)
        ]
        return [*batch[: len(batch) - count], *replayed]


class ReplayInBatches(TrainerCallback):
    """Puts the mixing collator into the data loader of the training, and into no other."""

    def __init__(self, share: float, seed: int, blocks: Sequence[Example]) -> None:
        self.share, self.seed, self.blocks = share, seed, blocks

    def on_train_begin(self, args: Any, state: Any, control: Any, train_dataloader: Any = None, **kwargs: Any) -> None:
        """The loader is made, and no batch has been drawn from it; a resumed training makes its own from this one."""
        loader = train_dataloader
        while hasattr(loader, "base_dataloader"):  # accelerate's wrapper draws from the loader inside it
            loader = loader.base_dataloader
        if not isinstance(loader.collate_fn, MixedBatches):
            loader.collate_fn = MixedBatches(loader.collate_fn, self.share, self.seed, self.blocks)


def _seed(seed: int, batch: Sequence[Example]) -> int:
    """Drawn from the batch itself, so that a training that goes on draws as the one that was stopped would have."""
    tokens = [[int(token) for token in example.get("input_ids", ())] for example in batch]
    return int.from_bytes(hashlib.sha256(json.dumps([seed, tokens]).encode()).digest()[:8], "big")
