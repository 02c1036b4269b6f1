"""Duplicates removed and splits drawn by hashing each text: the same rows on every machine, in any file order."""

import hashlib
from collections.abc import Iterable, Sequence

from spectra.data.task import Row
from spectra.errors import DataError

Splits = tuple[list[Row], list[Row], list[Row]]


def identity(row: Row) -> str:
    """What makes two rows the same example: its input, white space and letter case aside."""
    parts = (row[column] for column in ("text", "text_pair", "source") if column in row)
    return "\x00".join(" ".join(part.split()).casefold() for part in parts)


def without_duplicates(rows: Iterable[Row]) -> list[Row]:
    """The first of equal inputs; inputs that occur with different labels are dropped, for no label can be trusted."""
    first: dict[str, Row] = {}
    disputed = set()
    for row in rows:
        key = identity(row)
        if first.setdefault(key, row).get("label") != row.get("label"):
            disputed.add(key)
    return [row for key, row in first.items() if key not in disputed]


def split(rows: Iterable[Row], *, name: str, validation: int, test: int, seed: int = 0) -> Splits:
    """Deduplicate, order by a seeded hash of the input, and cut: test first, then validation, then training.

    Raises:
        DataError: If nothing would be left to train on.
    """
    unique = sorted(without_duplicates(rows), key=lambda row: _draw(row, seed))
    if validation + test >= len(unique):
        raise DataError(
            f"Task '{name}' has {len(unique)} distinct rows, too few to set aside {validation} for validation "
            f"and {test} for the test. Ask for smaller splits or give more rows."
        )
    return unique[test + validation :], unique[test : test + validation], unique[:test]


def without(rows: Sequence[Row], *others: Sequence[Row]) -> list[Row]:
    """The rows whose input occurs in none of the other splits."""
    taken = {identity(row) for other in others for row in other}
    return [row for row in rows if identity(row) not in taken]


def _draw(row: Row, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\x00{identity(row)}".encode()).digest()
