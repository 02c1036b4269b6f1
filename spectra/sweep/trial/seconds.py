"""Where the time of a trial goes: seconds by part, of which no two overlap."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

Part = Literal["start", "load", "training", "validation", "trajectory", "scan", "controls", "measuring", "testing"]


class Clock:
    """Adds up the seconds of each part; what a part does inside another one counts for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._inner = 0.0

    @contextmanager
    def part(self, name: Part) -> Iterator[None]:
        """Time a part."""
        began, outer, self._inner = time.perf_counter(), self._inner, 0.0
        try:
            yield
        finally:
            took = time.perf_counter() - began
            self.add(name, took - self._inner)
            self._inner = outer + took

    def add(self, name: Part, seconds: float) -> None:
        """Add time that was measured elsewhere."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def move(self, source: Part, name: Part, seconds: float) -> None:
        """Book time of one part under another."""
        self.add(source, -seconds)
        self.add(name, seconds)
