"""Learning rates of LoRA: a grid with a neighbour on either side, and a rate carried over to another rank and alpha.

With B = 0 at the start and Adam, every entry of B moves by about the rate eta in a step, and so does every entry of A.
Once both have moved further than A's first values, ||delta_W|| = ||scaling B A|| grows like

    scaling rank (eta t)^2 = alpha (eta t)^2,

so that trainings with the same  eta sqrt(scaling rank)  make updates of about the same size.
"""

import math
from collections.abc import Sequence

STEP = math.sqrt(10)  # between two rates of a grid
MOST = 7  # rates of a grid that is made longer


def reach(rate: float, scaling: float, rank: int) -> float:
    """eta sqrt(scaling rank): equal for trainings of which about the same size of the update is expected.

    Source: the growth of scaling B A under Adam, as above; Kalajdzievski 2023, arXiv:2312.03732, and Hayou et al. 2024,
        arXiv:2402.12354, derive scalings from the same products.
        Difference: a rule for carrying a rate over, whose error is measured (`reports/plan_calibration.md`), and no
        limit of large width.
    """
    return rate * math.sqrt(scaling * rank)


def carried_over(rate: float, before: tuple[float, int], after: tuple[float, int]) -> float:
    """The rate with the same reach at another (scaling, rank)."""
    return rounded(rate * reach(1.0, *before) / reach(1.0, *after))


def grid(rate: float, neighbours: int = 1) -> list[float]:
    """A rate in the middle of its neighbours, increasing."""
    return [rounded(rate * STEP**number) for number in range(-neighbours, neighbours + 1)]


def longer(rates: Sequence[float], best: float) -> list[float]:
    """The same grid with one more rate where the best one has no neighbour; unchanged if it has two, or at `MOST`."""
    ordered = sorted(rates)
    if len(ordered) >= MOST:
        return ordered
    if best <= ordered[0]:
        return [rounded(ordered[0] / STEP), *ordered]
    return [*ordered, rounded(ordered[-1] * STEP)] if best >= ordered[-1] else ordered


def rounded(rate: float) -> float:
    """Two digits: as a person would write it."""
    return float(f"{rate:.2g}")
