"""Repeated rows removed and splits drawn by hashing each input: the same on every machine, in any file order.

Nothing is left out without being counted: a `Counted` goes from the file to the split and keeps the account.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from spectra.data.account import DISPUTED, DUPLICATE
from spectra.data.rows import Counted, Row, Splits
from spectra.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


def first(rows: "Dataset", limit: int | None) -> "Dataset":
    """At most `limit` rows: the leading ones, for splits come in an order drawn by hash."""
    return rows if limit is None else rows.select(range(min(limit, len(rows))))


def identity(row: Row) -> str:
    """What makes two rows the same input, white space and letter case aside."""
    parts = (row[column] for column in ("text", "text_pair", "source") if column in row)
    return "\x00".join(_loosely(part) for part in parts)


def _loosely(text: str) -> str:
    return " ".join(text.split()).casefold()


def _outcome(row: Row) -> Any:
    """What a row says about its input."""
    return _loosely(row["target"]) if "target" in row else row.get("label")


def without_duplicates(counted: Counted) -> Counted:
    """The first of rows that say the same.

    Inputs that occur with different classes are left out, for no label can be trusted; an input with several answers
    or scores is as many examples.
    """
    first: dict[tuple[str, str], Row] = {}
    outcomes: dict[str, set[str]] = {}
    for row in counted.rows:
        key, outcome = identity(row), json.dumps(_outcome(row))
        outcomes.setdefault(key, set()).add(outcome)
        first.setdefault((key, outcome), row)
    disputed = {key for key, found in outcomes.items() if len(found) > 1 and _is_class(first[key, min(found)])}
    conflicting = sum(identity(row) in disputed for row in counted.rows) if disputed else 0
    kept = [row for (key, _), row in first.items() if key not in disputed]
    repeated = len(counted.rows) - conflicting - len(kept)
    return counted.keeping(kept, {DUPLICATE: repeated, DISPUTED: conflicting})


def _is_class(row: Row) -> bool:
    return isinstance(row.get("label"), str | list)


def without(counted: Counted, others: Mapping[str, Counted]) -> Counted:
    """The rows whose input occurs in none of the other splits, by the name of the split."""
    kept, dropped = list(counted.rows), dict[str, int]()
    for name, other in others.items():
        taken = {identity(row) for row in other.rows}
        left = [row for row in kept if identity(row) not in taken]
        dropped[f"also in the {name} split"] = len(kept) - len(left)
        kept = left
    return counted.keeping(kept, dropped)


def split(counted: Counted, *, name: str, validation: int, test: int, seed: int = 0) -> Splits:
    """Order by a seeded hash of the input, and cut: test first, then validation, then training.

    Rows of one input stay together, so that a split may have a few rows more than asked for.

    Raises:
        DataError: If nothing would be left to train on.
    """
    drawn = sorted(counted.rows, key=lambda row: (_draw(row, seed), json.dumps(_outcome(row))))
    end_of_test = _end(drawn, test)
    end_of_validation = _end(drawn, end_of_test + validation)
    if end_of_validation >= len(drawn):
        raise DataError(
            f"Task '{name}' has {len(drawn)} distinct rows, too few to set aside {validation} for validation "
            f"and {test} for the test. Ask for smaller splits or give more rows."
        )
    parts = {"test": drawn[:end_of_test], "validation": drawn[end_of_test:end_of_validation]}
    aside = {part: len(rows) for part, rows in parts.items() if rows}
    rest = replace(counted, rows=drawn[end_of_validation:], set_aside=aside)
    return rest, Counted.of(parts["validation"]), Counted.of(parts["test"])


def ordered(counted: Counted, seed: int = 0) -> Counted:
    """All rows in the order in which splits are drawn, so that the first n are a random sample."""
    return replace(counted, rows=sorted(counted.rows, key=lambda row: (_draw(row, seed), json.dumps(_outcome(row)))))


def _end(drawn: Sequence[Row], wanted: int) -> int:
    """The first end of a group of equal inputs at or after `wanted` rows."""
    end = min(wanted, len(drawn))
    while 0 < end < len(drawn) and identity(drawn[end]) == identity(drawn[end - 1]):
        end += 1
    return end


def _draw(row: Row, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\x00{identity(row)}".encode()).digest()
