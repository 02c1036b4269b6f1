"""Prompts for generative models, cut so that the instruction at their end is never lost."""

from collections.abc import Sequence
from typing import cast

from transformers import PreTrainedTokenizerBase

from spectra.errors import ModelError
from spectra.forgetting.batches import Tokens
from spectra.models import Model


def is_seq2seq(model: Model, task: str) -> bool:
    """Whether a generative model reads the prompt with an encoder.

    Raises:
        ModelError: If the model has no language-modelling head.
    """
    if not (hasattr(model, "can_generate") and model.can_generate()):
        raise ModelError(
            f"Task '{task}' needs a generative model, but {type(model).__name__} has no language-modelling head. "
            "Use linear-probe for an encoder."
        )
    return bool(model.config.is_encoder_decoder)


def prompts(
    tokenizer: PreTrainedTokenizerBase, inputs: Sequence[str], instruction: str, max_length: int, *, seq2seq: bool
) -> list[Tokens]:
    """Each input cut to `max_length` tokens, then the instruction, which is never cut.

    Cutting both as one text would take away the end: the part that asks the question. The cut is made in the text,
    so that input and instruction are tokenised together as they would be without it.
    """
    cut = tokenizer(
        list(inputs), truncation=True, max_length=max_length, add_special_tokens=False, return_offsets_mapping=True
    )
    texts = [
        text[: offsets[-1][1]] + instruction if offsets else instruction
        for text, offsets in zip(inputs, cut["offset_mapping"], strict=True)
    ]
    ids = cast(list[Tokens], tokenizer(texts)["input_ids"])
    if seq2seq:
        return ids
    # A tokenizer that closes texts would tell a causal model that there is nothing to answer.
    return [tokens[:-1] if tokens[-1] == tokenizer.eos_token_id else tokens for tokens in ids]
