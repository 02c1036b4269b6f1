"""Token sequences in padded batches, longest first, so that one batch holds texts of like length."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from jaxtyping import Int
from torch import Tensor

from spectra.data import Cut, cut_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tokens = list[int]


def encode(
    tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str], max_length: int, pairs: Sequence[str] | None = None
) -> tuple[list[Tokens], Cut]:
    """Token numbers of each text with the tokenizer's own special tokens, cut to `max_length`, and what was lost.

    Args:
        tokenizer: The model's.
        texts: One per example.
        max_length: Tokens of an example.
        pairs: The second text of each example, where the task is about pairs.
    """
    whole = cast(
        list[Tokens], tokenizer(list(texts), None if pairs is None else list(pairs), verbose=False)["input_ids"]
    )
    long = [position for position, tokens in enumerate(whole) if len(tokens) > max_length]
    kept = list(whole)
    if long:
        longest = [texts[position] for position in long]
        second = None if pairs is None else [pairs[position] for position in long]
        cut = tokenizer(longest, second, truncation=True, max_length=max_length)
        for position, tokens in zip(long, cast(list[Tokens], cut["input_ids"]), strict=True):
            kept[position] = tokens
    return kept, cut_of(list(map(len, whole)), list(map(len, kept)), max_length)


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
