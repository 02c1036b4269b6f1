"""Rows of a task as token sequences of at most `max_length`, and the account of what did not fit."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from spectra.data import Cut, cut_of
from spectra.errors import DataError
from spectra.models.prompts import chat_prompt, framed, open_prompt

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Tokens = dict[str, Any]

IGNORED = -100  # a label that the loss leaves out, as everywhere in transformers


@dataclass(frozen=True)
class Encoded:
    """Token sequences with their labels.

    Attributes:
        examples: Of a row, or of a block of texts.
        cut: What was lost to the limit of their length.
    """

    examples: Sequence[Tokens]
    cut: Cut


def classified(rows: "Dataset", tokenizer: "PreTrainedTokenizerBase", max_length: int) -> Encoded:
    """A text, or two, with the row's label; the longer text loses its end, as everywhere in the field."""
    found, lengths = [], []
    for row in rows:
        texts = [row["text"]] + ([row["text_pair"]] if row.get("text_pair") is not None else [])
        whole = dict(tokenizer(*texts, verbose=False))
        lengths.append(len(whole["input_ids"]))
        fits = lengths[-1] <= max_length
        tokens = whole if fits else dict(tokenizer(*texts, truncation=True, max_length=max_length))
        found.append({**tokens, "labels": _label(row["label"])})
    return Encoded(found, cut_of(lengths, [len(one["input_ids"]) for one in found], max_length))


def _label(label: Any) -> Any:
    """A number; several labels as floats, as their loss takes them."""
    return [float(one) for one in label] if isinstance(label, list) else label


def blocks(rows: "Dataset", tokenizer: "PreTrainedTokenizerBase", max_length: int) -> Encoded:
    """Texts joined by the end-of-text token and cut into blocks, of which the last may be shorter.

    A block's first token has nothing to be predicted from, so a last block of a single token is left out.
    """
    end = _end(tokenizer)
    joined: list[int] = []
    for row in rows:
        joined += tokenizer(row["text"], add_special_tokens=False, verbose=False)["input_ids"] + end
    starts = range(0, len(joined), max_length)
    parts = [part for start in starts if len(part := joined[start : start + max_length]) > 1]
    found = [{"input_ids": part, "attention_mask": [1] * len(part), "labels": list(part)} for part in parts]
    return Encoded(found, Cut(max_length, len(rows), 0, len(joined), len(joined) - sum(map(len, parts))))


def answered(rows: "Dataset", tokenizer: "PreTrainedTokenizerBase", max_length: int) -> Encoded:
    """Prompt and answer, the loss on the answer alone and on the token that ends it.

    What is longer than `max_length` in all is cut so that prompt and answer each keep half of it, or what the other
    does not need. A prompt loses its middle, never what a chat template puts around it; an answer loses its end.
    """
    end = _end(tokenizer)
    found, lengths = [], []
    for row in rows:
        answer = tokenizer(row["target"], add_special_tokens=False, verbose=False)["input_ids"] + end
        prompt = (
            chat_prompt(tokenizer, row["source"])
            if tokenizer.chat_template
            else open_prompt(tokenizer, row["source"], "\n")
        )
        lengths.append(prompt.length + len(answer))
        answer = answer[: max(max_length // 2, max_length - prompt.length)]
        ids = prompt.within(max_length - len(answer))
        if len(ids) + len(answer) > max_length:
            raise DataError(
                f"The chat template alone takes {len(prompt.before) + len(prompt.after)} tokens, and an example has "
                f"{max_length} in all. Raise max_length."
            )
        found.append(
            {
                "input_ids": ids + answer,
                "attention_mask": [1] * (len(ids) + len(answer)),
                "labels": [IGNORED] * len(ids) + answer,
            }
        )
    return Encoded(found, cut_of(lengths, [len(one["input_ids"]) for one in found], max_length))


def paired(rows: "Dataset", tokenizer: "PreTrainedTokenizerBase", max_length: int) -> Encoded:
    """A source for the encoder, which loses its middle if it is too long, and a target, which loses its end."""
    found, lengths, kept = [], [], []
    for row in rows:
        source = framed(tokenizer, row["source"])
        ids = source.within(max_length)
        target = cast("list[int]", tokenizer(text_target=row["target"], verbose=False)["input_ids"])
        labels = target
        if len(target) > max_length:
            labels = tokenizer(text_target=row["target"], truncation=True, max_length=max_length)["input_ids"]
        found.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels})
        lengths.append(source.length + len(target))
        kept.append(len(ids) + len(labels))
    return Encoded(found, cut_of(lengths, kept, max_length))


def _end(tokenizer: "PreTrainedTokenizerBase") -> list[int]:
    return [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
