"""Rows of a task on their way from a file to a split, and the account that they keep."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Counted:
    """Rows, and the account of those that were left out on the way.

    Attributes:
        rows: What is left.
        read: How many there were.
        dropped: How many were left out, by the reason.
        set_aside: How many were moved to another split, by its name.
    """

    rows: Sequence[Row]
    read: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    set_aside: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Counted":
        """All rows of a file."""
        found = list(rows)
        return cls(found, len(found))

    def keeping(self, rows: Sequence[Row], dropped: Mapping[str, int]) -> "Counted":
        """Fewer rows, with the reasons."""
        counts = Counter(self.dropped)
        counts.update(dropped)
        return replace(self, rows=rows, dropped={reason: count for reason, count in counts.items() if count})


Splits = tuple[Counted, Counted, Counted]
