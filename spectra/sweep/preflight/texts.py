"""Whether texts fit a base: no longer than it has positions, and long enough to predict a token."""

from collections.abc import Iterator, Sequence
from typing import Any

from spectra.data import TaskData
from spectra.errors import DataError
from spectra.forgetting import HeldOut
from spectra.forgetting.positions import positions_problem
from spectra.models import load_config
from spectra.models.base import load_tokenizer
from spectra.models.positions import beyond_positions, positions_of
from spectra.sweep.spec.specification import Specification
from spectra.training.families import encode, family_of
from spectra.training.metrics import FamilyName

SPLITS = ("train", "validation", "test")
FIRST = (1, 8)  # rows that as a rule hold two tokens


def text_problems(
    specification: Specification, tasks: Sequence[TaskData], held_out: Sequence[HeldOut]
) -> Iterator[str]:
    """A sentence for each task with a text that is too long for the base, or with too little text.

    Cost: all texts are cut into tokens only where the length asked for exceeds the positions.
    """
    config, tokenizer = load_config(specification.base), load_tokenizer(specification.base)
    length, positions = specification.max_length, positions_of(config)
    for task in tasks:
        family = family_of(task.kind, specification.base)
        if positions is not None and length > positions and _longest(task, family, tokenizer, length) > positions:
            yield beyond_positions(f"task '{task.name}'", length, config)
        if specification.methods:
            yield from _too_little(task, family, tokenizer, length)
    yield from filter(None, (positions_problem(config, tokenizer, one) for one in held_out))


def _longest(task: TaskData, family: FamilyName, tokenizer: Any, length: int) -> int:
    """The longest sequence of tokens that the task makes."""
    encoded = [encode(getattr(task, split), family, tokenizer, length).examples for split in SPLITS]
    fields = ("input_ids", "labels") if family == "seq2seq" else ("input_ids",)
    return max(len(one[field]) for examples in encoded for one in examples for field in fields)


def _too_little(task: TaskData, family: FamilyName, tokenizer: Any, length: int) -> Iterator[str]:
    """Texts are joined into blocks, of which the last may be short; one of two tokens is enough."""
    for split in SPLITS:
        rows = getattr(task, split)
        for count in (*FIRST, len(rows)):
            try:
                encode(rows.select(range(min(count, len(rows)))), family, tokenizer, length)
                break
            except DataError as error:
                reason = error
        else:
            yield f"The {split} split of task '{task.name}' is too short. {reason}"
