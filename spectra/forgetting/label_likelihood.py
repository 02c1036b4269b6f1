"""Zero-shot classification: the label that a generative model finds likeliest."""

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spectra.forgetting.answers import is_seq2seq, prompts
from spectra.forgetting.batches import Tokens, length_ordered, pad
from spectra.forgetting.held_out import HeldOut
from spectra.models import Model
from spectra.statistics.scores import Scores, fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def label_likelihood(
    model: Model, tokenizer: "PreTrainedTokenizerBase", held_out: HeldOut, *, batch_size: int
) -> Scores:
    """Error of the label with the largest likelihood after the prompt.

    prediction = argmax over labels c of  sum_t ln p(c_t | prompt, c_<t),   prompt = text + instruction

    The two texts of a pair stand on two lines of the prompt.

    A causal model continues the prompt; an encoder-decoder reads it and writes the label. `details` also has the
    accuracy with the sum divided by the label's bytes, which long labels suffer less under.

    Raises:
        DataError: If the task is no classification.
        ModelError: If the model generates no text.

    Source: Brown et al. 2020, arXiv:2005.14165, section 2.4; `acc` and `acc_norm` of the lm-evaluation-harness.
        Difference: one prompt for all tasks (`HeldOut.instruction`), labels written as their names.
    """
    data = held_out.require_kind("classification")
    seq2seq = is_seq2seq(model, held_out.name)
    rows = held_out.test_rows()
    contexts, cut = prompts(tokenizer, held_out.texts(rows), held_out.instruction, held_out.max_length, seq2seq=seq2seq)
    words = [name.replace("_", " ") for name in data.label_names]
    answers = _answers(tokenizer, words, seq2seq=seq2seq)
    likelihoods = (_seq2seq if seq2seq else _causal)(model, tokenizer, contexts, answers, batch_size)
    truth = np.array(rows["label"])
    errors = (likelihoods.argmax(1) != truth).astype(np.float64)
    per_byte = likelihoods / np.array([len(word.encode()) for word in words])
    settings = {"measure": "label-likelihood", "answers": answers, "max_length": held_out.max_length}
    return Scores(
        task=held_out.name,
        metric="label-likelihood",
        unit="error rate",
        values=errors,
        weights=np.ones_like(errors),
        score_name="accuracy",
        score=float(1 - errors.mean()),
        fingerprint=fingerprint(settings, [*contexts, rows["label"][:]]),
        details={
            "accuracy_per_byte": float((per_byte.argmax(1) == truth).mean()),
            "nats_per_true_label": float(-likelihoods[np.arange(len(truth)), truth].mean()),
            "most_frequent_label": float(np.bincount(truth).max() / len(truth)),
            "texts_cut": float(cut.cut),
        },
        warnings=held_out.warnings(cut),
    )


def _answers(tokenizer: "PreTrainedTokenizerBase", words: list[str], *, seq2seq: bool) -> list[Tokens]:
    if seq2seq:
        return cast(list[Tokens], tokenizer(text_target=words)["input_ids"])
    return cast(list[Tokens], tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"])


def _causal(
    model: Model, tokenizer: "PreTrainedTokenizerBase", contexts: list[Tokens], answers: list[Tokens], batch_size: int
) -> Float[np.ndarray, "n labels"]:
    """ln p(answer | context) by continuing the context.

    An answer's last token is predicted but never read, so answers of one token share the context's forward pass.
    """
    result = np.zeros((len(contexts), len(answers)))
    readers: dict[tuple[int, ...], list[tuple[int, int]]] = {}
    for row, context in enumerate(contexts):
        for column, answer in enumerate(answers):
            readers.setdefault((*context, *answer[:-1]), []).append((row, column))
    sequences = [list(sequence) for sequence in readers]
    pairs = list(readers.values())
    for positions in length_ordered(sequences, batch_size):
        ids, mask = pad([sequences[position] for position in positions], tokenizer.pad_token_id, device=model.device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for line, position in enumerate(positions):
            for row, column in pairs[position]:
                # Logits at t speak of token t + 1: the context's last token already predicts the answer's first.
                start = len(contexts[row]) - 1
                window = logits[line, start : start + len(answers[column])]
                result[row, column] = _sum_of_logs(window, answers[column])
    return result


def _seq2seq(
    model: Model, tokenizer: "PreTrainedTokenizerBase", contexts: list[Tokens], answers: list[Tokens], batch_size: int
) -> Float[np.ndarray, "n labels"]:
    """ln p(answer | context) by writing the answer; each context is encoded once."""
    result = np.zeros((len(contexts), len(answers)))
    for positions in length_ordered(contexts, batch_size):
        ids, mask = pad([contexts[position] for position in positions], tokenizer.pad_token_id, device=model.device)
        encoded = cast(Any, model).get_encoder()(input_ids=ids, attention_mask=mask)
        for column, answer in enumerate(answers):
            targets = torch.tensor([answer] * len(positions), device=model.device)
            # With `labels` the model shifts its decoder's input itself: logits at t speak of target t.
            logits = model(encoder_outputs=encoded, attention_mask=mask, labels=targets).logits
            result[positions, column] = [_sum_of_logs(window, answer) for window in logits]
    return result


def _sum_of_logs(logits: Float[Tensor, "seq vocab"], answer: Tokens) -> float:
    truth = torch.tensor(answer, device=logits.device)[:, None]
    return float(logits.float().log_softmax(-1).gather(1, truth).double().sum())
