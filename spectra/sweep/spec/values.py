"""Values that a specification may write in several ways: lists, ranges, rules for alpha, grids of learning rates."""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag

Rate = Annotated[float, Field(gt=0, lt=1)]
RANGE = re.compile(r"(\d+)\.\.(\d+)")
MOST_VALUES, MOST_DIGITS = 10_000, 18
RULE = re.compile(r"(\d*\.?\d*)r")


def one_or_many(value: Any) -> Any:
    """A single value stands for a list of one; a text may hold several, separated by commas."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",")]
    return list(value) if isinstance(value, list | tuple) else [value]


def expand_integers(value: Any) -> Any:
    """Integers, alone or in a list, with ranges such as 0..2, both ends included."""
    expanded: list[Any] = []
    for part in one_or_many(value):
        bounds = RANGE.fullmatch(part) if isinstance(part, str) else None
        if bounds is None:
            expanded.append(part)
            continue
        first, last = int(bounds[1][:MOST_DIGITS]), int(bounds[2][:MOST_DIGITS])
        if last - first >= MOST_VALUES:
            raise ValueError(f"{part[:40]} are more than {MOST_VALUES} values; write a shorter range")
        expanded += range(first, last + 1)
    return expanded


def alpha_or_rule(value: Any) -> Any:
    """A number, or a multiple of the rank: "2r", "r", "0.5r"."""
    if isinstance(value, str) and not RULE.fullmatch(value):
        try:
            value = float(value)
        except ValueError:
            raise ValueError(f"'{value}' is no alpha; write a number, or a multiple of the rank such as 2r") from None
    if isinstance(value, int | float) and value <= 0:
        raise ValueError(f"alpha is {value}; give a positive number")
    return value if isinstance(value, str) else float(value)


def resolved_alpha(alpha: float | str, rank: int) -> float:
    """The number that a rule gives for a rank."""
    if isinstance(alpha, str):
        multiple = RULE.fullmatch(alpha)
        return float(multiple[1] or 1) * rank if multiple else float(alpha)
    return alpha


def rates_or_table(value: Any) -> Any:
    """A grid of learning rates, or one grid per rank."""
    if isinstance(value, dict):
        return {rank: one_or_many(rates) for rank, rates in value.items()}
    return one_or_many(value)


Alpha = Annotated[float | str, BeforeValidator(alpha_or_rule)]
Grid = Annotated[list[Rate], Field(min_length=1)]
LearningRates = Annotated[
    Annotated[Grid, Tag("[grid]")] | Annotated[dict[int, Grid], Tag("[table]")],
    Discriminator(lambda value: "[table]" if isinstance(value, dict) else "[grid]"),
    BeforeValidator(rates_or_table),
]
