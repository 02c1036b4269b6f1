"""A figure with its interval, or with the reason why the examples do not tell even its sign."""

import math
from dataclasses import dataclass, replace
from typing import Literal

Finding = Literal["positive", "negative", "spans zero", "cannot tell"]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Where `cannot_tell` names a reason, the interval contains zero: who reads its ends alone draws no conclusion either.

    Attributes:
        value: The measured figure.
        low: Lower end; minus infinity where there is none.
        high: Upper end; infinity where there is none.
        cannot_tell: Why the examples hold too little information for a verdict, or "".
        method: How the interval was made, in words; "" where it has no end.

    Raises:
        ValueError: If the interval contradicts `cannot_tell`.
    """

    value: float
    low: float
    high: float
    cannot_tell: str = ""
    method: str = ""

    def __post_init__(self) -> None:
        if not self.low <= self.high or (self.cannot_tell and not self.low <= 0 <= self.high):
            raise ValueError(f"no interval of an estimate: {self}")

    @classmethod
    def undecided(cls, value: float, low: float, high: float, reason: str, method: str = "") -> "Estimate":
        """The interval stretched to zero, where a reason forbids a verdict."""
        if reason:
            low, high = min(low, 0.0), max(high, 0.0)
        return cls(value, low, high, reason, method)

    @classmethod
    def unknown(cls, value: float, reason: str) -> "Estimate":
        """A figure of which nothing is known beyond itself."""
        return cls(value, -math.inf, math.inf, reason)

    def negated(self) -> "Estimate":
        """The same of the opposite figure."""
        return replace(self, value=0.0 - self.value, low=0.0 - self.high, high=0.0 - self.low)

    @property
    def is_positive(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.low > 0

    @property
    def is_negative(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.high < 0

    @property
    def finding(self) -> Finding:
        """What may be said."""
        if self.cannot_tell:
            return "cannot tell"
        if self.is_positive:
            return "positive"
        return "negative" if self.is_negative else "spans zero"

    @property
    def ends(self) -> tuple[float | None, float | None]:
        """Both ends as tables and JSON keep them: None where there is none."""
        return stored_end(self.low), stored_end(self.high)


def stored_end(end: float) -> float | None:
    """An end of an interval for a table or JSON, which know no infinity."""
    return float(end) if math.isfinite(end) else None


def interval_text(low: float | None, high: float | None, form: str = "+.4g") -> str:
    """An interval for people:  [-0.1, +0.3],  [+0.1, unbounded]  or  no interval."""
    ends = [None if end is None or not math.isfinite(end) else format(end, form) for end in (low, high)]
    if ends == [None, None]:
        return "no interval"
    return f"[{', '.join(end or 'unbounded' for end in ends)}]"
