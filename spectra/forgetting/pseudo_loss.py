"""Pseudo-loss of masked language models: each token masked in turn."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from spectra.errors import DataError, ModelError, first_five
from spectra.forgetting.batches import Tokens, encode, pad
from spectra.forgetting.held_out import HeldOut
from spectra.forgetting.lm_loss import implausible_loss
from spectra.models import Model, body_of
from spectra.statistics.scores import Scores, fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def pseudo_loss(model: Model, tokenizer: "PreTrainedTokenizerBase", held_out: HeldOut, *, batch_size: int) -> Scores:
    """Mean loss of a masked-LM at each token of a text, that token being masked.

    loss = - sum_{texts} sum_t ln p(x_t | x with position t masked)  /  sum_{texts} (number of t)     (nats per token)

    Special tokens are neither masked nor scored. Cost: as many sequences through the model as there are tokens.

    Raises:
        ModelError: If the tokenizer has no mask token.
        DataError: If a text has no token to mask.

    Source: Salazar et al. 2020, arXiv:1910.14659, section 2 (pseudo-log-likelihood and pseudo-perplexity); the
        pseudo-loss of Shuttleworth et al., arXiv:2410.21228.
        Difference: the logarithm of their corpus pseudo-perplexity; texts are cut to `max_length` tokens.
    """
    if tokenizer.mask_token_id is None:
        raise ModelError(f"The tokenizer of '{held_out.name}' has no mask token. Use lm-loss for a causal model.")
    ids, cut = encode(tokenizer, held_out.test_texts(), held_out.max_length)
    maskable = [_maskable(tokenizer, tokens) for tokens in ids]
    if empty := [number for number, positions in enumerate(maskable) if not positions]:
        raise DataError(f"Texts number {first_five(empty)} have no token to mask. Remove them from the task.")
    nats = _masked_losses(model, tokenizer, ids, maskable, batch_size)
    counts = np.array([float(len(positions)) for positions in maskable])
    loss = float(nats.sum() / counts.sum())
    return Scores(
        task=held_out.name,
        metric="pseudo-loss",
        unit="nats per token",
        values=nats / counts,
        weights=counts,
        score_name="pseudo-loss",
        score=loss,
        fingerprint=fingerprint({"measure": "pseudo-loss", "max_length": held_out.max_length}, ids),
        details={"masked_tokens": float(counts.sum()), "texts_cut": float(cut.cut)},
        warnings=(*implausible_loss(loss, len(tokenizer)), *held_out.warnings(cut)),
    )


@contextmanager
def under_pretrained_head(pretrained: "PreTrainedModel", tuned: Model) -> "Iterator[PreTrainedModel]":
    """Put the body of a tuned model, adapters included, under the head of a pre-trained masked-LM, for a while.

    A model tuned for classification has lost its masked-LM head; as in Shuttleworth et al. the pre-trained head, its
    output embedding included, judges what the tuned body still encodes.

    Raises:
        ModelError: If the two bodies are of different classes or widths.
    """
    name = pretrained.base_model_prefix
    own, body = getattr(pretrained, name, None), body_of(tuned)
    if own is None or type(own) is not type(body) or own.config.hidden_size != body.config.hidden_size:
        raise ModelError(
            f"The body {type(body).__name__} of the tuned model does not fit under {type(pretrained).__name__}. "
            "Name the base that the model was tuned from."
        )
    setattr(pretrained, name, body)
    try:
        yield pretrained
    finally:
        setattr(pretrained, name, own)


def _maskable(tokenizer: "PreTrainedTokenizerBase", tokens: Tokens) -> list[int]:
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    return [position for position, token in enumerate(tokens) if token not in special]


def _masked_losses(
    model: Model,
    tokenizer: "PreTrainedTokenizerBase",
    ids: Sequence[Tokens],
    maskable: Sequence[Sequence[int]],
    batch_size: int,
) -> np.ndarray:
    device = model.device
    nats = np.zeros(len(ids))
    jobs = [(number, position) for number, positions in enumerate(maskable) for position in positions]
    jobs.sort(key=lambda job: -len(ids[job[0]]))
    for start in range(0, len(jobs), batch_size):
        chunk = jobs[start : start + batch_size]
        masked = [_with_mask(ids[number], position, tokenizer.mask_token_id) for number, position in chunk]
        batch, mask = pad(masked, tokenizer.pad_token_id, device=device)
        logits = model(input_ids=batch, attention_mask=mask).logits
        rows = torch.arange(len(chunk), device=device)
        at_mask = logits[rows, torch.tensor([position for _, position in chunk], device=device)]
        truth = torch.tensor([ids[number][position] for number, position in chunk], device=device)
        losses = -at_mask.float().log_softmax(-1)[rows, truth].double().cpu().numpy()
        np.add.at(nats, [number for number, _ in chunk], losses)
    return nats


def _with_mask(tokens: Tokens, position: int, mask: int) -> Tokens:
    return [*tokens[:position], mask, *tokens[position + 1 :]]
