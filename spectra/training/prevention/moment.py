"""Where a training stands, as a rule of its update sees it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import nn


@dataclass(frozen=True)
class Moment:
    """Where a training stands.

    Attributes:
        step: Optimiser steps that were made.
        steps: Of how many.
        rate: The learning rate of a parameter in the step that was just made; 0 before the first one.
    """

    step: int = 0
    steps: int = 1
    rate: Callable[[nn.Parameter], float] = lambda parameter: 0.0

    @property
    def progress(self) -> float:
        """Share of the training that is done, in [0, 1]."""
        return min(self.step / self.steps, 1.0) if self.steps > 0 else 1.0


@runtime_checkable
class Kept(Protocol):
    """What is called around every optimiser step."""

    def before_step(self) -> None:
        """The gradients stand."""
        ...

    def keep(self, moment: Moment) -> None:
        """The optimiser has made its step."""
        ...
