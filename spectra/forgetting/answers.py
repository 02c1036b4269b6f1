"""Prompts for generative models, cut so that neither their beginning nor the instruction at their end is lost."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spectra.data import Cut, cut_of
from spectra.errors import ModelError
from spectra.forgetting.batches import Tokens
from spectra.models import Model
from spectra.models.prompts import Prompt, framed, open_prompt, shortened

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    tokenizer: "PreTrainedTokenizerBase", inputs: Sequence[str], instruction: str, max_length: int, *, seq2seq: bool
) -> tuple[list[Tokens], Cut]:
    """Each input within `max_length` tokens, then the instruction, which is never cut; and what was lost.

    An input that is too long loses its middle: what it asks stands at its beginning or at its end.
    """
    found, lengths, kept = [], [], []
    for text in inputs:
        prompt = framed(tokenizer, text + instruction) if seq2seq else open_prompt(tokenizer, text, instruction)
        if seq2seq and instruction:
            after = open_prompt(tokenizer, text, instruction)
            prompt = Prompt(prompt.before, after.text, [*after.after, *prompt.after])
        ids = [*prompt.before, *shortened(prompt.text, max_length), *prompt.after]
        found.append(ids)
        lengths.append(prompt.length)
        kept.append(len(ids))
    return found, cut_of(lengths, kept, max_length)
