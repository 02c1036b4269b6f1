"""One measured point of an intervention: the scores of every task."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from spectra.forgetting import Scores

BASE = "base"
TUNED = "tuned"


@dataclass(frozen=True, eq=False)
class Point:
    """What one state of the model scored.

    Attributes:
        held_out: Scores by held-out task.
        own: Score on the task that it was tuned on; None where none was asked for, or the base has no such head.
    """

    held_out: Mapping[str, Scores]
    own: Scores | None

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "held_out": {name: scores.to_dict() for name, scores in self.held_out.items()},
            "own": self.own.to_dict() if self.own else None,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Point":
        """The inverse of `to_dict`."""
        held_out = {name: Scores.from_dict(scores) for name, scores in stored["held_out"].items()}
        return cls(held_out, Scores.from_dict(stored["own"]) if stored["own"] else None)
