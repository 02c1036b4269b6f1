"""Whether texts fit a base: no longer than it has positions, and long enough for one block."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from spectra.data import TaskData
from spectra.forgetting import HeldOut
from spectra.models import load_config
from spectra.models.base import load_tokenizer
from spectra.sweep.spec.specification import Specification
from spectra.training.families import family_of

BATCH = 256
# Models whose positions begin behind the number of the padding token.
OFFSET_POSITIONS = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "mpnet")
SPLITS = ("train", "validation", "test")


def text_problems(
    specification: Specification, tasks: Sequence[TaskData], held_out: Sequence[HeldOut]
) -> Iterator[str]:
    """A sentence for each task with a text that is too long for the base, or with too little text.

    Cost: texts are cut into tokens only where the length asked for exceeds the positions.
    """
    base = specification.base
    positions = positions_of(load_config(base))
    tokenizer = load_tokenizer(base)
    asked: list[tuple[str, TaskData, int, tuple[str, ...]]] = [
        (f"task '{task.name}'", task, specification.max_length, SPLITS) for task in tasks
    ]
    asked += [
        (f"held-out task '{one.name}'", one.data, one.max_length, ("train", "test")) for one in held_out if one.data
    ]
    for name, data, length, splits in asked:
        rows = [row for split in splits for row in getattr(data, split)] if positions and length > positions else []
        if positions and _reaches(tokenizer, rows, positions):
            yield (
                f"max_length is {length} for {name}, which has texts beyond the {positions} positions of '{base}'. "
                f"Use a max_length of at most {positions}."
            )
    for task in tasks:
        if specification.methods and family_of(task.kind, base) == "causal-lm":
            for split in SPLITS:
                if not _fills(tokenizer, getattr(task, split), specification.max_length):
                    yield (
                        f"The {split} split of task '{task.name}' does not fill one block of "
                        f"{specification.max_length} tokens. Give it more text, or use a smaller max_length."
                    )


def positions_of(config: Any) -> int | None:
    """Tokens that a model has positions for; None where their number has no end."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    if config.model_type in OFFSET_POSITIONS:
        return positions - (config.pad_token_id or 0) - 1
    return positions


def _reaches(tokenizer: Any, rows: Iterable[dict[str, Any]], positions: int) -> bool:
    """Whether a row has more tokens than there are positions; all its texts count together."""
    return any(length > positions for length in _lengths(tokenizer, rows, special=True))


def _fills(tokenizer: Any, rows: Iterable[dict[str, Any]], length: int) -> bool:
    """Whether plain texts, each with its end-of-text token, make a block."""
    total = 0
    for tokens in _lengths(tokenizer, rows, special=False):
        total += tokens + (tokenizer.eos_token_id is not None)
        if total >= length:
            return True
    return False


def _lengths(tokenizer: Any, rows: Iterable[dict[str, Any]], *, special: bool) -> Iterator[int]:
    batch: list[str] = []
    for row in rows:
        batch.append(" ".join(str(value) for name, value in row.items() if name != "label"))
        if len(batch) == BATCH:
            yield from _encoded(tokenizer, batch, special=special)
            batch = []
    if batch:
        yield from _encoded(tokenizer, batch, special=special)


def _encoded(tokenizer: Any, texts: list[str], *, special: bool) -> Iterator[int]:
    yield from map(len, tokenizer(texts, add_special_tokens=special, verbose=False)["input_ids"])
