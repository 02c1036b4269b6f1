"""LM loss against an independent computation, one text and one token at a time."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import small_models as small
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from spectra.errors import DataError
from spectra.forgetting import forgetting, measure
from spectra.forgetting import lm_loss as lm_loss_module


def reference_losses(model: torch.nn.Module, text: str, max_length: int = 10**6) -> list[float]:
    """-ln p of each token after the first, from a forward pass over nothing but the tokens before it."""
    ids = small.tokenizer()(text)["input_ids"][:max_length]
    losses = []
    for t in range(1, len(ids)):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids[:t]])).logits[0, -1].double().numpy()
        losses.append(float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[ids[t]]))
    return losses


def test_the_loss_equals_an_independent_computation_token_by_token() -> None:
    model, task = small.llama(), small.prose()
    scores = measure(model, small.tokenizer(), task, batch_size=5)
    expected = [reference_losses(model, text) for text in task.test_texts()]
    np.testing.assert_allclose(scores.values, [np.mean(losses) for losses in expected], rtol=1e-5)  # float32 logits
    assert scores.weights.tolist() == [len(losses) for losses in expected]
    assert scores.loss == pytest.approx(np.mean([loss for losses in expected for loss in losses]), rel=1e-5)


def test_padding_takes_no_part_in_the_loss() -> None:
    model, task = small.llama(), small.prose()
    alone = measure(model, small.tokenizer(), task, batch_size=1)
    padded = measure(model, small.tokenizer(), task, batch_size=12)
    np.testing.assert_allclose(alone.values, padded.values, rtol=1e-5)  # float32 in another order


def test_texts_are_cut_to_the_stated_length() -> None:
    model, task = small.llama(), small.prose(max_length=4)
    scores = measure(model, small.tokenizer(), task)
    expected = [np.mean(reference_losses(model, text, 4)) for text in task.test_texts()]
    np.testing.assert_allclose(scores.values, expected, rtol=1e-5)


def test_bits_per_byte_count_the_bytes_that_were_predicted() -> None:
    model, task = small.llama(), small.prose(measure="bits-per-byte")
    scores = measure(model, small.tokenizer(), task)
    for value, weight, text in zip(scores.values, scores.weights, task.test_texts(), strict=True):
        predicted = text.partition(" ")[2]  # the first word is never predicted; the space after it is
        assert weight == len(f" {predicted}".encode())
        assert value == pytest.approx(sum(reference_losses(model, text)) / math.log(2) / weight, rel=1e-5)


def byte_level() -> PreTrainedTokenizerFast:
    """Every byte a token of its own, as GPT-2 falls back to."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made)


def byte_fallback() -> PreTrainedTokenizerFast:
    """Letters as pieces, all else byte by byte, as Llama's vocabulary does."""
    pieces = ["<unk>", "\N{LOWER ONE EIGHTH BLOCK}", *"abcdef", *(f"<0x{byte:02X}>" for byte in range(256))]
    made = Tokenizer(models.BPE({p: i for i, p in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    made.decoder = decoders.Sequence(
        [decoders.Replace("\N{LOWER ONE EIGHTH BLOCK}", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


@pytest.mark.parametrize("make", [byte_level, byte_fallback])
@pytest.mark.parametrize("text", ["abc def", "\u00e4b \u4e2d\U0001f600 c", "\U0001f600", "a\ufffdb", "\ufffd\u4e2d"])
def test_bytes_are_counted_also_where_a_token_ends_inside_a_character(
    make: Callable[[], PreTrainedTokenizerFast], text: str
) -> None:
    """Byte by byte every token is one byte, so a cut after t of them predicts t - 1 bytes, whatever it goes through."""
    tokenizer = make()
    ids = tokenizer(text)["input_ids"]
    assert len(ids) == len(text.encode())
    cuts = [ids[:length] for length in range(2, len(ids) + 1)]
    assert lm_loss_module._bytes(tokenizer, cuts).tolist() == [len(cut) - 1 for cut in cuts]


def test_a_text_of_one_token_is_refused() -> None:
    task = small.prose()
    short = replace(task, data=replace(task.task_data(), test=task.task_data().test.add_item({"text": "w1"})))
    with pytest.raises(DataError, match=r"Texts number 12 have fewer than two tokens"):
        measure(small.llama(), small.tokenizer(), short)


def test_a_loss_worse_than_a_uniform_guess_is_warned_of() -> None:
    assert lm_loss_module.implausible_loss(math.log(100) - 0.01, 100) == ()
    (warning,) = lm_loss_module.implausible_loss(9.0, 100)
    assert warning.startswith("The loss of 9.00 nats per token is worse than a uniform guess among 100 tokens (4.61)")


def test_the_base_against_itself_forgets_exactly_nothing() -> None:
    model, task = small.llama(), small.prose()
    first, second = (measure(model, small.tokenizer(), task, batch_size=4) for _ in range(2))
    result = forgetting(first, second)
    assert result.forgetting == 0.0
    assert result.finding == "cannot tell" and result.spans_zero
