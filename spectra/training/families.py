"""Task families: how a row becomes tokens and labels, how a batch is padded, and what the score is.

A classification task trains a new head; "causal-lm" packs texts into blocks; "instruction" is a task of sources and
targets on a causal model, with the loss on the target alone; "seq2seq" is the same on an encoder-decoder.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from spectra.data import TaskKind
from spectra.errors import DataError, ModelError
from spectra.models import ModelKind, resolve_model
from spectra.models.remote_code import remote_code_refusal, trusts_remote_code
from spectra.training.adapt import TaskType

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

FamilyName = Literal["classification", "causal-lm", "instruction", "seq2seq"]
Tokens = dict[str, Any]

IGNORED = -100  # a label that the loss leaves out, as everywhere in transformers


@dataclass(frozen=True)
class Family:
    """One kind of task on one kind of model.

    Attributes:
        model_kind: Which head the model needs.
        task_type: What peft calls it.
        metric: Name of the score, higher is better.
        encode: Rows to token sequences of at most max_length.
        reduce: Logits and labels of a batch to one row of two numbers per example, (sum, weight); the score is the
            ratio of their totals.
    """

    model_kind: ModelKind
    task_type: TaskType
    metric: str
    encode: Callable[["Dataset", "PreTrainedTokenizerBase", int], Iterable[Tokens]]
    reduce: Callable[[Tensor, Tensor], Tensor]


def family_of(kind: TaskKind, base: str) -> FamilyName:
    """The family of a task on a base model: sources and targets make an "instruction" task on a decoder-only one.

    Raises:
        ModelError: If the model cannot be found, or cannot be trained on such a task.
    """
    if kind == "classification":
        return "classification"
    config = load_config(base)
    encoder_decoder = bool(getattr(config, "is_encoder_decoder", False))
    if kind == "seq2seq":
        return "seq2seq" if encoder_decoder else "instruction"
    if encoder_decoder:
        raise ModelError(
            f"A {config.model_type} model is an encoder-decoder and cannot be trained on plain texts. "
            "Choose a task with sources and targets, or a decoder-only base."
        )
    return "causal-lm"


def load_config(base: str) -> Any:
    """The configuration of a base model, weights untouched.

    Raises:
        ModelError: If it cannot be found.
    """
    from transformers import AutoConfig

    try:
        return AutoConfig.from_pretrained(resolve_model(base), trust_remote_code=trusts_remote_code())
    except (OSError, ValueError) as error:
        if (refusal := remote_code_refusal(base, error)) is not None:
            raise refusal from error
        raise ModelError(
            f"The configuration of base '{base}' cannot be read: {str(error).splitlines()[0]}. "
            "Name a model folder, an asset of `spectra assets list` or a hub id, or go online once."
        ) from error


def examples(rows: "Dataset", family: FamilyName, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> "Dataset":
    """Rows of a task as token sequences.

    Raises:
        DataError: If they are too few tokens for a single example.
    """
    from datasets import Dataset

    encoded = list(FAMILIES[family].encode(rows, tokenizer, max_length))
    if not encoded:
        raise DataError(
            f"{len(rows)} texts give no block of {max_length} tokens. Give more text or a smaller max_length."
        )
    return Dataset.from_list(encoded)


def collator(family: FamilyName, tokenizer: "PreTrainedTokenizerBase", model: Any) -> Callable[[list[Tokens]], Tokens]:
    """Pads a batch to its longest example; padding carries no loss."""
    from transformers import DataCollatorForSeq2Seq, DataCollatorWithPadding

    if family == "classification":
        return DataCollatorWithPadding(tokenizer)
    return DataCollatorForSeq2Seq(tokenizer, model=model if family == "seq2seq" else None, label_pad_token_id=IGNORED)


def _classified(rows: "Dataset", tokenizer: "PreTrainedTokenizerBase", max_length: int) -> Iterator[Tokens]:
    for row in rows:
        texts = [row["text"]] + ([row["text_pair"]] if row.get("text_pair") is not None else [])
        yield {**_tokens(tokenizer, *texts, max_length=max_length), "labels": row["label"]}


def _blocks(rows: "Dataset", tokenizer: "PreTrainedTokenizerBase", max_length: int) -> Iterator[Tokens]:
    """Texts joined by the end-of-text token and cut into full blocks; the last, shorter one is left out."""
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    waiting: list[int] = []
    for row in rows:
        waiting += tokenizer(row["text"], add_special_tokens=False, verbose=False)["input_ids"] + end
        while len(waiting) >= max_length:
            block, waiting = waiting[:max_length], waiting[max_length:]
            yield {"input_ids": block, "attention_mask": [1] * max_length, "labels": list(block)}


def _answered(rows: "Dataset", tokenizer: "PreTrainedTokenizerBase", max_length: int) -> Iterator[Tokens]:
    """Prompt and answer, the loss on the answer alone. The answer keeps at least half the length; a prompt that
    does not fit loses its end before the answer loses anything."""
    end = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    for row in rows:
        answer = (tokenizer(row["target"], add_special_tokens=False, verbose=False)["input_ids"] + end)[
            : max_length - 1
        ]
        opening, closing = _prompt(row["source"], tokenizer)
        room = max_length - len(answer) - len(closing)
        prompt = (opening[: max(room, 1)] + closing)[-max(max_length - len(answer), 1) :]
        yield {
            "input_ids": prompt + answer,
            "attention_mask": [1] * (len(prompt) + len(answer)),
            "labels": [IGNORED] * len(prompt) + answer,
        }


def _prompt(source: str, tokenizer: "PreTrainedTokenizerBase") -> tuple[list[int], list[int]]:
    """The prompt's tokens and those that must stay when it is cut: what the chat template puts before an answer."""
    if not tokenizer.chat_template:
        return tokenizer(source, verbose=False)["input_ids"], tokenizer("\n", add_special_tokens=False)["input_ids"]
    mark = "\N{OBJECT REPLACEMENT CHARACTER}"
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": mark}], tokenize=False, add_generation_prompt=True
    )
    before, _, after = str(chat).partition(mark)
    plain = {"add_special_tokens": False, "verbose": False}
    return tokenizer(before + source, **plain)["input_ids"], tokenizer(after, **plain)["input_ids"]


def _paired(rows: "Dataset", tokenizer: "PreTrainedTokenizerBase", max_length: int) -> Iterator[Tokens]:
    for row in rows:
        target = tokenizer(text_target=row["target"], truncation=True, max_length=max_length)["input_ids"]
        yield {**_tokens(tokenizer, row["source"], max_length=max_length), "labels": target}


def _tokens(tokenizer: "PreTrainedTokenizerBase", *texts: str, max_length: int) -> Tokens:
    return dict(tokenizer(*texts, truncation=True, max_length=max_length))


def _hits(logits: Float[Tensor, "batch labels"], labels: Int[Tensor, " batch"]) -> Float[Tensor, "batch 2"]:
    hits = (logits.argmax(-1) == labels).float()
    return torch.stack([hits, torch.ones_like(hits)], dim=-1)


def _likelihood(logits: Float[Tensor, "batch seq vocab"], labels: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch 2"]:
    """Log-likelihood of the labels, summed over the tokens of each example, and their number."""
    kept = labels != IGNORED
    chosen = labels.where(kept, 0).unsqueeze(-1)
    likelihood = logits.float().log_softmax(-1).gather(-1, chosen).squeeze(-1)
    return torch.stack([(likelihood * kept).sum(-1), kept.sum(-1).float()], dim=-1)


def _next_token_likelihood(
    logits: Float[Tensor, "batch seq vocab"], labels: Int[Tensor, "batch seq"]
) -> Float[Tensor, "batch 2"]:
    """The logits at one position speak of the next token."""
    return _likelihood(logits[:, :-1], labels[:, 1:])


FAMILIES: Mapping[FamilyName, Family] = {
    "classification": Family("classification", "SEQ_CLS", "accuracy", _classified, _hits),
    "causal-lm": Family("causal-lm", "CAUSAL_LM", "negative loss", _blocks, _next_token_likelihood),
    "instruction": Family("causal-lm", "CAUSAL_LM", "negative loss", _answered, _next_token_likelihood),
    "seq2seq": Family("seq2seq", "SEQ_2_SEQ_LM", "negative loss", _paired, _likelihood),
}
