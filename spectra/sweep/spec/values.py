"""Values that a specification may write in several ways: lists, ranges, rules for alpha, grids of learning rates."""

import math
import re
from typing import Annotated, Any

from pydantic import BeforeValidator, Discriminator, Field, Tag

Rate = Annotated[float, Field(gt=0, lt=1)]
RANGE = re.compile(r"(\d+)\.\.(\d+)")
RULE = re.compile(r"(\d+\.?\d*|\.\d+)?r")
LONGEST_RANGE = 100_000
MOST_DIGITS = 18


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
        if bounds and max(len(bounds[1]), len(bounds[2])) > MOST_DIGITS:
            raise ValueError(f"'{part[:20]}...' holds more than {LONGEST_RANGE:,} numbers; give a smaller range")
        if bounds and int(bounds[2]) - int(bounds[1]) >= LONGEST_RANGE:
            raise ValueError(f"'{part}' holds more than {LONGEST_RANGE:,} numbers; give a smaller range")
        expanded += range(int(bounds[1]), int(bounds[2]) + 1) if bounds else [part]
    return expanded


def alpha_or_rule(value: Any) -> Any:
    """A number, or a multiple of the rank: "2r", "r", "0.5r"."""
    rule = RULE.fullmatch(value) if isinstance(value, str) else None
    if rule is None:
        try:
            number = float("no number" if isinstance(value, bool) else value)
        except (TypeError, ValueError):
            raise ValueError(f"'{value}' is no alpha; write a number, or a multiple of the rank such as 2r") from None
    else:
        number = float(rule[1] or 1)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"alpha is {value}; give a positive number")
    return value if rule else number


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
