"""Zero-shot classification: the label that a generative model finds likeliest."""

from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from transformers import PreTrainedTokenizerBase

from spectra.forgetting.answers import is_seq2seq, prompts
from spectra.forgetting.batches import Tokens, length_ordered, pad
from spectra.forgetting.held_out import HeldOut
from spectra.forgetting.scores import Scores, fingerprint
from spectra.models import Model

IGNORED = -100  # target number that no loss is computed for


def label_likelihood(model: Model, tokenizer: PreTrainedTokenizerBase, held_out: HeldOut, *, batch_size: int) -> Scores:
    """Error of the label with the largest likelihood after the prompt.

    prediction = argmax over labels c of  sum_t ln p(c_t | prompt, c_<t),   prompt = text + instruction

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
    contexts = prompts(tokenizer, rows["text"], held_out.instruction, held_out.max_length, seq2seq=seq2seq)
    words = [name.replace("_", " ") for name in data.label_names]
    answers = _answers(tokenizer, words, seq2seq=seq2seq)
    pairs = [(context, answer) for context in contexts for answer in answers]
    flat = _log_likelihoods(model, tokenizer, pairs, batch_size=batch_size, seq2seq=seq2seq)
    likelihoods = flat.reshape(len(contexts), len(answers))
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
        },
    )


def _answers(tokenizer: PreTrainedTokenizerBase, words: list[str], *, seq2seq: bool) -> list[Tokens]:
    if seq2seq:
        return cast(list[Tokens], tokenizer(text_target=words)["input_ids"])
    return cast(list[Tokens], tokenizer([f" {word}" for word in words], add_special_tokens=False)["input_ids"])


def _log_likelihoods(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    pairs: list[tuple[Tokens, Tokens]],
    *,
    batch_size: int,
    seq2seq: bool,
) -> Float[np.ndarray, " n"]:
    """ln p(answer | context) of each pair."""
    device = model.device
    result = np.zeros(len(pairs))
    for positions in length_ordered([context + answer for context, answer in pairs], batch_size):
        batch = [pairs[position] for position in positions]
        if seq2seq:
            ids, mask = pad([context for context, _ in batch], tokenizer.pad_token_id, device=device)
            targets, real = pad([answer for _, answer in batch], 0, device=device)
            logits = model(input_ids=ids, attention_mask=mask, labels=targets.masked_fill(real == 0, IGNORED)).logits
        else:
            ids, mask = pad([context + answer for context, answer in batch], tokenizer.pad_token_id, device=device)
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
        for row, (position, (context, answer)) in enumerate(zip(positions, batch, strict=True)):
            # The decoder's logits at t speak of answer token t; a causal model's at t speak of token t + 1.
            start = 0 if seq2seq else len(context) - 1
            window = logits[row, start : start + len(answer)].float().log_softmax(-1)
            truth = torch.tensor(answer, device=device)[:, None]
            result[position] = window.gather(1, truth).double().sum().item()
    return result
