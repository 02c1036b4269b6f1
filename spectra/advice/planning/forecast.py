"""What a short pilot says of a longer training: sizes of updates, intruders and forgetting, each with its uncertainty.

The pilot measured quantities q (a spectral norm, a forgetting) at a few rates. Over rates they are interpolated on
logarithms; from the pilot's length to that of the training they grow with the sum of the rate's schedule,

    log q = log q_pilot(rate) + growth log(E / E_pilot) + by_rank log(rank / rank_pilot) + offset,

E being the sum of the schedule's factors. `Law` holds growth, by_rank, offset and the errors of this;
`scripts/check_plan.py` fits them to sweeps that ended.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

LEAST_SLOPE, LARGEST_SLOPE = 0.2, 2.0  # of a logarithm over that of the rate, beyond the rates of the pilot
NORMAL = NormalDist()
LEVEL = 0.8  # coverage that intervals are meant to have
WIDTH = NORMAL.inv_cdf((1 + LEVEL) / 2)


@dataclass(frozen=True)
class Law:
    """How a quantity grows from the pilot to the end of a training.

    Attributes:
        growth: Exponent of the ratio of the sums of schedule factors.
        by_rank: Exponent of the ratio of the ranks.
        offset: What the logarithm is off on average.
        shared: Standard deviation of the error that everything in one training has in common.
        own: Standard deviation of what is left: of one matrix, or of one held-out task.
    """

    growth: float
    by_rank: float
    offset: float
    shared: float
    own: float

    @property
    def error(self) -> float:
        """Standard deviation of the logarithm of one forecast."""
        return math.hypot(self.shared, self.own)

    def grown(self, pilot: float, steps: float, rank: float = 1.0) -> float:
        """A pilot's quantity at the end of a training: ratios of the schedules' sums and of the ranks."""
        return pilot * math.exp(self.growth * math.log(steps) + self.by_rank * math.log(rank) + self.offset)


def effective_steps(steps: int, warmup: float = 0.06) -> float:
    """Sum of the linear schedule's factors: the steps that a constant rate would need for the same sum.

    Args:
        steps: Optimiser steps.
        warmup: Share of them in which the rate rises.
    """
    rising = round(warmup * steps)
    return sum(step / rising if step < rising else (steps - step) / max(steps - rising, 1) for step in range(steps))


def interpolated(points: Sequence[tuple[float, float]], rate: float) -> float:
    """A positive quantity at a rate, linear on logarithms; beyond the ends the last slope goes on, within bounds.

    Args:
        points: Rates, increasing, and what was measured there, positive.
        rate: Where it is wanted.
    """
    x, y = [math.log(one) for one, _ in points], [math.log(value) for _, value in points]
    at = math.log(rate)
    if len(x) == 1:
        return math.exp(y[0] + at - x[0])
    place = min(max(sum(one <= at for one in x), 1), len(x) - 1)
    slope = (y[place] - y[place - 1]) / (x[place] - x[place - 1])
    if at < x[0] or at > x[-1]:
        slope = min(max(slope, LEAST_SLOPE), LARGEST_SLOPE)
        near = 0 if at < x[0] else -1
        return math.exp(y[near] + slope * (at - x[near]))
    return math.exp(y[place - 1] + slope * (at - x[place - 1]))


def chance_above(value: float, limit: float, error: float) -> float:
    """Probability that a quantity forecast as `value`, with a log-normal error, lies above `limit`."""
    return NORMAL.cdf((math.log(value) - math.log(limit)) / error)


def expected_above(values: Sequence[float], limits: Sequence[float], law: Law) -> tuple[float, float, float]:
    """How many of several quantities of one training lie above their limits: the mean, and an interval of `LEVEL`.

    The interval moves the error that they share by `WIDTH` standard deviations.
    """
    means = [chance_above(value, limit, law.error) for value, limit in zip(values, limits, strict=True)]
    ends = [
        sum(
            chance_above(value * math.exp(moved * law.shared), limit, law.own)
            for value, limit in zip(values, limits, strict=True)
        )
        for moved in (-WIDTH, WIDTH)
    ]
    # Even with the shared error known, each one still is what it is by chance.
    chance = [math.sqrt(max(end * (1 - end / max(len(means), 1)), 0)) for end in ends]
    return sum(means), max(0.0, ends[0] - WIDTH * chance[0]), min(float(len(means)), ends[1] + WIDTH * chance[1])


def interval(value: float, law: Law) -> tuple[float, float]:
    """The interval of `LEVEL` around a forecast."""
    return value * math.exp(-WIDTH * law.error), value * math.exp(WIDTH * law.error)
