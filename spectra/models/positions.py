"""How many tokens a model can read: a text beyond its positions is refused before the model fails on it."""

from typing import Any

# Models whose positions begin behind the number of the padding token.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "mpnet")


def positions_of(config: Any) -> int | None:
    """Tokens that a model has positions for; None where their number has no end."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    if config.model_type in OFFSET_POSITIONS:
        return positions - (config.pad_token_id or 0) - 1
    return positions


def beyond_positions(what: str, max_length: int, config: Any, more: int = 0) -> str:
    """The sentence for texts that reach beyond the positions of a model, by themselves or with `more` tokens behind."""
    positions = positions_of(config) or 0
    texts = f"texts that with {more} tokens behind them reach" if more else "texts"
    return (
        f"max_length is {max_length} for {what}, which has {texts} beyond the {positions} positions of "
        f"'{config.name_or_path}'. Use a max_length of at most {max(positions - more, 0)}."
    )
