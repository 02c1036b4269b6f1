"""Task families: how a row becomes tokens and labels, how a batch is padded, and what the score is.

Classification, regression and several labels at once train a new head; "causal-lm" packs texts into blocks;
"instruction" is a task of sources and targets on a causal model, with the loss on the target alone; "seq2seq" is the
same on an encoder-decoder.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from spectra.data import TaskData, TaskKind
from spectra.data.labels import order_in
from spectra.errors import DataError, ModelError
from spectra.models import ModelKind, load_config, output_names
from spectra.models.causal import require_causal_architecture
from spectra.training.encoding import IGNORED, Encoded, Tokens, answered, blocks, classified, paired
from spectra.training.method import TaskType
from spectra.training.metrics import FamilyName

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]


@dataclass(frozen=True)
class Family:
    """One kind of task on one kind of model.

    Attributes:
        model_kind: Which head the model needs.
        task_type: What peft calls it.
        encode: Rows to token sequences of at most max_length.
        reduce: Logits and labels of a batch to one row per example, in two halves: predictions and truth, or of a
            language model the log-likelihood and its number of tokens.
        loss: Sum of the losses of a batch over all that is labelled in it.
        count: How many that are.
        problem_type: What transformers calls it in a saved configuration.
    """

    model_kind: ModelKind
    task_type: TaskType
    encode: Callable[["Dataset", "PreTrainedTokenizerBase", int], Encoded]
    reduce: Callable[[Tensor, Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]
    count: Callable[[Tensor], Tensor]
    problem_type: ProblemType | None = None


def family_of(kind: TaskKind, base: str) -> FamilyName:
    """The family of a task on a base model: sources and targets make an "instruction" task on a decoder-only one.

    Raises:
        ModelError: If the model cannot be found, or cannot be trained on such a task.
    """
    if kind in ("classification", "regression", "multi-label"):
        return kind
    config = load_config(base)
    encoder_decoder = bool(getattr(config, "is_encoder_decoder", False))
    if kind == "seq2seq" and encoder_decoder:
        return "seq2seq"
    if encoder_decoder:
        raise ModelError(
            f"A {config.model_type} model is an encoder-decoder and cannot be trained on plain texts. "
            "Choose a task with sources and targets, or a decoder-only base."
        )
    require_causal_architecture(config, base)
    return "instruction" if kind == "seq2seq" else "causal-lm"


def in_order_of(task: TaskData, config: Any, reference: str) -> TaskData:
    """The task with its labels in the order of a model's head.

    Raises:
        ModelError: If the head has other labels, or another number of them.
    """
    if task.outputs is None:
        return task
    width = getattr(config, "num_labels", 0)
    if width != task.outputs:
        raise ModelError(
            f"'{reference}' has a head of {width} outputs, and the task '{task.name}' needs {task.outputs}. "
            "Name the task that it was tuned on."
        )
    if not task.label_names:
        return task
    head = output_names(config)
    order = order_in(head, task.label_names)
    if order is None:
        raise ModelError(
            f"The head of '{reference}' tells {', '.join(head)} apart (id2label), and the task '{task.name}' has the "
            f"labels {', '.join(task.label_names)}. Give the task label_names in the words of the head."
        )
    return task.in_order(order)


def encode(rows: "Dataset", family: FamilyName, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> Encoded:
    """Rows of a task as token sequences, with the account of what did not fit.

    Raises:
        DataError: If there is nothing to learn from in them.
    """
    encoded = FAMILIES[family].encode(rows, tokenizer, max_length)
    if not encoded.examples:
        raise DataError(f"{len(rows)} texts give no block of two tokens. Give more text.")
    return encoded


def text_rows(texts: Sequence[str]) -> "Dataset":
    """Plain texts as the rows of a task."""
    from datasets import Dataset

    return Dataset.from_dict({"text": list(texts)})


def examples(rows: "Dataset", family: FamilyName, tokenizer: "PreTrainedTokenizerBase", max_length: int) -> "Dataset":
    """Rows of a task as token sequences."""
    from datasets import Dataset

    return Dataset.from_list(list(encode(rows, family, tokenizer, max_length).examples))


def collator(family: FamilyName, tokenizer: "PreTrainedTokenizerBase", model: Any) -> Callable[[list[Tokens]], Tokens]:
    """Pads a batch to its longest example; padding carries no loss."""
    from transformers import DataCollatorForSeq2Seq, DataCollatorWithPadding

    if FAMILIES[family].model_kind == "classification":
        return DataCollatorWithPadding(tokenizer)
    return DataCollatorForSeq2Seq(tokenizer, model=model if family == "seq2seq" else None, label_pad_token_id=IGNORED)


def _classes(logits: Float[Tensor, "batch labels"], labels: Int[Tensor, " batch"]) -> Float[Tensor, "batch 2"]:
    return torch.stack([logits.argmax(-1), labels], dim=-1).float()


def _scores(logits: Float[Tensor, "batch 1"], labels: Shaped[Tensor, " batch"]) -> Float[Tensor, "batch 2"]:
    return torch.stack([logits.squeeze(-1).float(), labels.float()], dim=-1)


def _chosen(logits: Float[Tensor, "batch labels"], labels: Float[Tensor, "batch labels"]) -> Tensor:
    return torch.cat([(logits > 0).float(), labels.float()], dim=-1)


def _likelihood(logits: Float[Tensor, "batch seq vocab"], labels: Int[Tensor, "batch seq"]) -> Float[Tensor, "batch 2"]:
    """Log-likelihood of the labels, summed over the tokens of each example, and their number.

    Example by example: all probabilities of a batch would take as much memory as its logits once or twice more.
    """
    kept = labels != IGNORED
    chosen = labels.where(kept, 0).unsqueeze(-1)
    each = [row.float().log_softmax(-1).gather(-1, one) for row, one in zip(logits, chosen, strict=True)]
    likelihood = torch.stack(each).squeeze(-1)
    return torch.stack([(likelihood * kept).sum(-1), kept.sum(-1).float()], dim=-1)


def _next_token_likelihood(
    logits: Float[Tensor, "batch seq vocab"], labels: Int[Tensor, "batch seq"]
) -> Float[Tensor, "batch 2"]:
    """The logits at one position speak of the next token."""
    return _likelihood(logits[:, :-1], labels[:, 1:])


def _token_loss(logits: Float[Tensor, "batch seq vocab"], labels: Int[Tensor, "batch seq"]) -> Float[Tensor, ""]:
    flat = logits.float().reshape(-1, logits.shape[-1])
    return cross_entropy(flat, labels.reshape(-1), ignore_index=IGNORED, reduction="sum")


def _next_token_loss(logits: Float[Tensor, "batch seq vocab"], labels: Int[Tensor, "batch seq"]) -> Float[Tensor, ""]:
    return _token_loss(logits[:, :-1], labels[:, 1:])


def _class_loss(logits: Float[Tensor, "batch labels"], labels: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    return cross_entropy(logits.float(), labels, reduction="sum")


def _squared_error(logits: Float[Tensor, "batch 1"], labels: Shaped[Tensor, " batch"]) -> Float[Tensor, ""]:
    return (logits.squeeze(-1).float() - labels.float()).square().sum()


def _each_label_loss(logits: Float[Tensor, "batch labels"], labels: Float[Tensor, "batch labels"]) -> Float[Tensor, ""]:
    return binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum")


def _all(labels: Tensor) -> Int[Tensor, ""]:
    return torch.tensor(labels.numel())


def _tokens(labels: Int[Tensor, "batch seq"]) -> Int[Tensor, ""]:
    return (labels != IGNORED).sum()


def _next_tokens(labels: Int[Tensor, "batch seq"]) -> Int[Tensor, ""]:
    return _tokens(labels[:, 1:])


FAMILIES: Mapping[FamilyName, Family] = {
    "classification": Family(
        "classification", "SEQ_CLS", classified, _classes, _class_loss, _all, "single_label_classification"
    ),
    "regression": Family("classification", "SEQ_CLS", classified, _scores, _squared_error, _all, "regression"),
    "multi-label": Family(
        "classification", "SEQ_CLS", classified, _chosen, _each_label_loss, _all, "multi_label_classification"
    ),
    "causal-lm": Family("causal-lm", "CAUSAL_LM", blocks, _next_token_likelihood, _next_token_loss, _next_tokens),
    "instruction": Family("causal-lm", "CAUSAL_LM", answered, _next_token_likelihood, _next_token_loss, _next_tokens),
    "seq2seq": Family("seq2seq", "SEQ_2_SEQ_LM", paired, _likelihood, _token_loss, _tokens),
}
