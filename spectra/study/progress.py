"""How far the interventions of a study are, and how long the rest will take."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """News of one intervention.

    Attributes:
        trial: Identity of the trial.
        finished: Interventions that have ended.
        of: Interventions in all.
        point: Points measured of this one.
        points: Its points; 0 before they are known.
        outcome: How it ended; "" while it runs.
        seconds_left: Estimate for all; None before anything is known.
    """

    trial: str
    finished: int
    of: int
    point: int = 0
    points: int = 0
    outcome: str = ""
    seconds_left: float | None = None


OnProgress = Callable[[Progress], None]


@dataclass
class Pace:
    """Counts points and finished interventions of the present call."""

    of: int
    tell: OnProgress
    clock: Callable[[], float] = time.monotonic
    finished: int = 0
    worked: int = 0
    _began: float = 0.0
    _parts: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The clock starts now."""
        self._began = self.clock()

    def point(self, trial: str, point: int, points: int) -> None:
        """So many points of a trial are measured."""
        self._parts[trial] = point / max(points, 1)
        self.tell(Progress(trial, self.finished, self.of, point, points, seconds_left=self.seconds_left))

    def ended(self, trial: str, outcome: str) -> None:
        """The intervention on a trial has ended."""
        self._parts.pop(trial, None)
        self.finished += 1
        self.worked += outcome == "done"
        self.tell(Progress(trial, self.finished, self.of, outcome=outcome, seconds_left=self.seconds_left))

    @property
    def seconds_left(self) -> float | None:
        """At the pace so far, of those that were worked on: one with nothing to treat says nothing of the pace."""
        done = self.worked + sum(self._parts.values())
        if done < 0.02:
            return None
        return (self.clock() - self._began) / done * (self.of - self.finished - sum(self._parts.values()))
