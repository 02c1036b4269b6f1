"""Language-modelling loss of causal models, in nats per token and in bits per byte."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
from jaxtyping import Float

from spectra.errors import DataError, first_five
from spectra.forgetting.batches import Tokens, encode, length_ordered, pad
from spectra.forgetting.held_out import HeldOut
from spectra.models import Model
from spectra.models.causal import require_causal
from spectra.statistics.scores import Scores, fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"  # what decoding makes of a part of a character
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


@dataclass(frozen=True, eq=False)
class TextLosses:
    """Negative log-likelihood of each text (nats), and how many tokens and bytes it was summed over."""

    nats: Float[np.ndarray, " n"]
    tokens: Float[np.ndarray, " n"]
    bytes: Float[np.ndarray, " n"]


def lm_loss(model: Model, tokenizer: "PreTrainedTokenizerBase", held_out: HeldOut, *, batch_size: int) -> Scores:
    """Mean next-token loss of a causal model over texts.

    loss = - sum_{texts} sum_{t>=2} ln p(x_t | x_<t)  /  sum_{texts} (number of t>=2)          (nats per token)
    bits per byte = the same sum / ln 2 / bytes of the tokens that were predicted

    Each text stands alone and is cut to `max_length` tokens; its first token has nothing to be predicted from.
    An example's value is its own mean, weighted by its tokens (or bytes), so that the weighted mean is the ratio above.

    Raises:
        DataError: If a text has fewer than two tokens.
        ModelError: If the model reads in both directions.

    Source: Biderman et al. 2024, arXiv:2405.14782, on normalising perplexity by tokens and bytes.
        Difference: texts are cut instead of read by a rolling window, so late tokens see at most `max_length` of
        context; padded positions take no part; bits per byte leaves out the bytes of the unpredicted first token.
    """
    texts = held_out.test_texts()
    require_causal(model, held_out.name)
    ids, cut = encode(tokenizer, texts, held_out.max_length)
    losses = text_losses(model, tokenizer, ids, batch_size=batch_size)
    per_byte = held_out.measure == "bits-per-byte"
    weights = losses.bytes if per_byte else losses.tokens
    values = losses.nats / weights / (math.log(2) if per_byte else 1.0)
    per_token = float(losses.nats.sum() / losses.tokens.sum())
    settings = {"measure": held_out.measure, "max_length": held_out.max_length}
    return Scores(
        task=held_out.name,
        metric=held_out.measure,
        unit="bits per byte" if per_byte else "nats per token",
        values=values,
        weights=weights,
        score_name="bits per byte" if per_byte else "loss",
        score=float(np.average(values, weights=weights)),
        fingerprint=fingerprint(settings, texts if per_byte else ids),
        details={
            "nats_per_token": per_token,
            "perplexity": math.exp(min(per_token, 700.0)),  # e^710 overflows
            "bits_per_byte": float(losses.nats.sum() / math.log(2) / losses.bytes.sum()),
            "predicted_tokens": float(losses.tokens.sum()),
            "texts_cut": float(cut.cut),
        },
        warnings=(*implausible_loss(per_token, len(tokenizer)), *held_out.warnings(cut)),
    )


def text_losses(
    model: Model, tokenizer: "PreTrainedTokenizerBase", ids: Sequence[Tokens], *, batch_size: int
) -> TextLosses:
    """Sum of -ln p(x_t | x_<t) over t >= 2 for each token sequence.  Cost: one forward pass over all texts."""
    if short := [position for position, tokens in enumerate(ids) if len(tokens) < 2]:
        raise DataError(f"Texts number {first_five(short)} have fewer than two tokens. Remove them from the task.")
    device = model.device
    nats = np.zeros(len(ids))
    for positions in length_ordered(ids, batch_size):
        batch, mask = pad([ids[position] for position in positions], tokenizer.pad_token_id, device=device)
        logits = model(input_ids=batch, attention_mask=mask, use_cache=False).logits
        for row, position in enumerate(positions):
            # Logits at t speak of token t + 1; positions from the text's own length on are padding.
            length = len(ids[position])
            log_probabilities = logits[row, : length - 1].float().log_softmax(-1)
            predicted = log_probabilities.gather(1, batch[row, 1:length, None])
            nats[position] = -predicted.double().sum().item()
    return TextLosses(nats, np.array([len(tokens) - 1.0 for tokens in ids]), _bytes(tokenizer, ids))


def implausible_loss(nats_per_token: float, vocabulary: int) -> tuple[str, ...]:
    """A warning where a model predicts worse than a uniform guess: the mark of shifted labels or a wrong tokenizer."""
    if nats_per_token <= math.log(vocabulary):
        return ()
    return (
        f"The loss of {nats_per_token:.2f} nats per token is worse than a uniform guess among {vocabulary:,} tokens "
        f"({math.log(vocabulary):.2f}): check that model and tokenizer belong together.",
    )


def _bytes(tokenizer: "PreTrainedTokenizerBase", ids: Sequence[Tokens]) -> Float[np.ndarray, " n"]:
    """Bytes of the predicted part of each text; at least 1, for a text of special tokens alone.

    Where the first token or the cut goes through a character, its decoded form is a replacement character of another
    size; the bytes are then counted token by token.
    """
    whole = tokenizer.batch_decode(list(ids), skip_special_tokens=True)
    first = tokenizer.batch_decode([tokens[:1] for tokens in ids], skip_special_tokens=True)
    sizes = [
        sum(token_bytes(tokenizer, tokens[1:]))
        if REPLACEMENT in text + start
        else len(text.encode()) - len(start.encode())
        for text, start, tokens in zip(whole, first, ids, strict=True)
    ]
    return np.array(sizes, dtype=np.float64).clip(min=1.0)


def token_bytes(tokenizer: "PreTrainedTokenizerBase", tokens: Tokens) -> list[int]:
    """Bytes that each token stands for; none for special tokens.

    A byte-level vocabulary (GPT-2) writes every byte as one letter of its own alphabet, one with byte fallback (Llama)
    writes a byte outside its pieces as <0xNN>, and spaces as a low line.
    """
    decoder = str(getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", ""))
    added = set(tokenizer.get_added_vocab())

    def size(piece: str) -> int:
        if "ByteLevel" in decoder and piece not in added:
            return len(piece)
        return 1 if BYTE.fullmatch(piece) else len(piece.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode())

    special = set(tokenizer.all_special_ids)
    pieces = cast(list[str], tokenizer.convert_ids_to_tokens(tokens))
    return [0 if token in special else size(piece) for token, piece in zip(tokens, pieces, strict=True)]
