"""Token sequences in padded batches, longest first, so that one batch holds texts of like length."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

Tokens = list[int]


def encode(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int) -> list[Tokens]:
    """Token numbers of each text with the tokenizer's own special tokens, cut to `max_length`."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_length, padding=False)
    return cast(list[Tokens], encoded["input_ids"])


def length_ordered(sequences: Sequence[Sequence[Any]], batch_size: int) -> Iterator[list[int]]:
    """Positions of the sequences, batch by batch, longest first: an over-long batch fails at once, not at the end."""
    order = sorted(range(len(sequences)), key=lambda position: (-len(sequences[position]), position))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def pad(
    sequences: Sequence[Tokens], padding: int, *, side: Literal["left", "right"] = "right", device: torch.device
) -> tuple[Int[Tensor, "batch seq"], Int[Tensor, "batch seq"]]:
    """Token numbers and attention mask (1 on real tokens) of a batch."""
    length = max(map(len, sequences))
    ids = torch.full((len(sequences), length), padding)
    mask = torch.zeros_like(ids)
    for row, tokens in enumerate(sequences):
        place = slice(length - len(tokens), length) if side == "left" else slice(0, len(tokens))
        ids[row, place] = torch.tensor(tokens)
        mask[row, place] = 1
    return ids.to(device), mask.to(device)
