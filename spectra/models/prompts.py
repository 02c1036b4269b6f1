"""Prompts as tokens: special tokens in their places, and a cut that keeps the beginning and the end.

What a prompt asks may stand first ("Summarise: ...") or last ("... Why?"), so a prompt that is too long loses its
middle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


Tokens = list[int]
PLACEHOLDER = "\N{OBJECT REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Prompt:
    """A prompt in three parts, of which only the middle one may be cut.

    Attributes:
        before: Special tokens, and what a chat template puts before the text.
        text: The text itself.
        after: What stands between the text and the answer.
    """

    before: Tokens
    text: Tokens
    after: Tokens

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.before) + len(self.text) + len(self.after)

    def within(self, room: int) -> Tokens:
        """All tokens, the text shortened so that at most `room` are left; the frame is never cut."""
        return [*self.before, *shortened(self.text, room - len(self.before) - len(self.after)), *self.after]


def shortened(tokens: Sequence[int], room: int) -> Tokens:
    """The first and the last tokens, as many as there is room for."""
    if len(tokens) <= room:
        return list(tokens)
    room = max(room, 0)
    ending = room // 2
    return [*tokens[: room - ending], *tokens[len(tokens) - ending :]]


def framed(tokenizer: "PreTrainedTokenizerBase", text: str) -> Prompt:
    """A text with the special tokens that the tokenizer puts around it, as an encoder reads it."""
    encoded = tokenizer(text, return_special_tokens_mask=True, verbose=False)
    ids, special = cast(Tokens, encoded["input_ids"]), cast(list[int], encoded["special_tokens_mask"])
    start = next((position for position, mark in enumerate(special) if not mark), len(ids))
    end = next((position for position in range(len(ids), start, -1) if not special[position - 1]), start)
    return Prompt(ids[:start], ids[start:end], ids[end:])


def open_prompt(tokenizer: "PreTrainedTokenizerBase", text: str, after: str) -> Prompt:
    """A text and what follows it, for a causal model to continue: no token closes it.

    A tokenizer that closes texts would tell the model that there is nothing to answer.
    """
    whole, alone = framed(tokenizer, text + after), framed(tokenizer, text)
    end = _shared(whole.text, alone.text)
    return Prompt(whole.before, whole.text[:end], whole.text[end:])


def chat_prompt(tokenizer: "PreTrainedTokenizerBase", text: str) -> Prompt:
    """A text as a user's message in the tokenizer's chat template, up to where the answer begins."""
    message = [{"role": "user", "content": PLACEHOLDER}]
    chat = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    before, _, after = str(chat).partition(PLACEHOLDER)

    def tokens(part: str) -> Tokens:
        return cast(Tokens, tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]) if part else []

    whole = tokens(before + text + after)
    start = _shared(whole, tokens(before))
    end = max(start, _shared(whole, tokens(before + text)))
    return Prompt(whole[:start], whole[start:end], whole[end:])


def _shared(whole: Tokens, beginning: Tokens) -> int:
    """Tokens that two begin with: a seam is found in what was tokenised together, never made."""
    pairs = zip(whole, beginning, strict=False)
    return next(
        (position for position, (one, other) in enumerate(pairs) if one != other), min(len(whole), len(beginning))
    )
