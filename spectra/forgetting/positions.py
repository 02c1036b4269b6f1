"""Held-out texts and the positions of a model: what reaches beyond them is refused in a sentence."""

from typing import TYPE_CHECKING, Any

from spectra.errors import ModelError
from spectra.forgetting.held_out import HeldOut
from spectra.models.positions import beyond_positions, positions_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def positions_problem(config: Any, tokenizer: "PreTrainedTokenizerBase", held_out: HeldOut) -> str | None:
    """A sentence, if texts of a held-out task reach beyond the positions of a model.

    Cost: texts are cut into tokens only where the length asked for exceeds the positions.
    """
    positions = positions_of(config)
    if held_out.data is None or positions is None:
        return None
    more = 0 if config.is_encoder_decoder else _written(tokenizer, held_out)
    if held_out.max_length + more <= positions:
        return None
    for rows in (held_out.fit_rows(), held_out.test_rows()):
        texts = held_out.texts(rows) if len(rows) else []
        longest = max(map(len, tokenizer(texts, verbose=False)["input_ids"]), default=0) if texts else 0
        if min(longest, held_out.max_length) + more > positions:
            return beyond_positions(f"held-out task '{held_out.name}'", held_out.max_length, config, more)
    return None


def require_positions(config: Any, tokenizer: "PreTrainedTokenizerBase", held_out: HeldOut) -> None:
    """Refuse texts that reach beyond the positions of a model.

    Raises:
        ModelError: If one does.
    """
    if (problem := positions_problem(config, tokenizer, held_out)) is not None:
        raise ModelError(problem)


def _written(tokenizer: "PreTrainedTokenizerBase", held_out: HeldOut) -> int:
    """Tokens that a causal model reads and writes behind a text."""
    if held_out.measure not in ("rouge-l", "label-likelihood"):
        return 0
    asked = len(tokenizer(held_out.instruction, add_special_tokens=False)["input_ids"])
    if held_out.measure == "rouge-l":
        return asked + held_out.max_new_tokens
    names = held_out.task_data().label_names
    return asked + max(len(tokenizer(f" {name}", add_special_tokens=False)["input_ids"]) for name in names)
