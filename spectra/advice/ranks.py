"""Which rank each matrix gets: a share of each update's energy, or one budget for all of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import SpectrumError
from spectra.linalg.allocation import allocate
from spectra.linalg.density import Spectrum
from spectra.metrics.explained_variance import rank_for_variance


@dataclass(frozen=True)
class RankRule:
    """How ranks are chosen.

    Attributes:
        keep: Share of each update's energy that its rank must keep, where there is no budget.
        max_rank: No rank is larger; None: no limit.
        budget: Numbers in all factors together, which go where they hold most energy; a matrix may get none.
    """

    keep: float = 0.9
    max_rank: int | None = None
    budget: int | None = None

    def __post_init__(self) -> None:
        """Refuse what has no meaning.

        Raises:
            SpectrumError: With the value and the remedy.
        """
        if not 0 < self.keep <= 1:
            raise SpectrumError(f"keep is {self.keep}, but it is a share in (0, 1]. Use for instance 0.9.")
        for name, count in (("max_rank", self.max_rank), ("budget", self.budget)):
            if count is not None and count < 1:
                raise SpectrumError(f"{name} is {count}, but it is at least 1. Use a positive number.")

    def ranks(self, spectra: Sequence[Spectrum], shapes: Sequence[tuple[int, int]]) -> list[int]:
        """The rank of each matrix; 0 where its update is zero, or where the budget goes elsewhere.

        Args:
            spectra: Singular values of the updates.
            shapes: (d_out, d_in) of the matrices.

        Raises:
            SpectrumError: If the budget does not pay for one direction of any matrix that was changed.
        """
        if self.budget is None:
            return [self._keeping(spectrum) for spectrum in spectra]
        squares = [
            all_values(spectrum, min(shape)).square()[: self.max_rank or None]
            for spectrum, shape in zip(spectra, shapes, strict=True)
        ]
        costs = [sum(shape) for shape in shapes]
        ranks = allocate(squares, costs, self.budget)
        if not any(ranks) and any(bool((own > 0).any()) for own in squares):
            raise SpectrumError(
                f"{self.budget} numbers are fewer than one direction of any matrix takes ({min(costs)}). Allow more."
            )
        return ranks

    def _keeping(self, spectrum: Spectrum) -> int:
        rank = math.ceil(spectrum.measure(lambda S, w: rank_for_variance(S, self.keep, w))[0])
        return min(rank, self.max_rank or rank)


def all_values(spectrum: Spectrum, n: int) -> Float[Tensor, " n"]:
    """n decreasing singular values with the distribution of an estimated spectrum; known ones stay what they are.

    The i-th value is where the weights add up to i + 1/2.
    """
    if spectrum.is_exact:
        return spectrum.values
    weights = spectrum.weights.mean(dim=0)
    middles = weights.cumsum(dim=0) - weights / 2
    wanted = torch.arange(n, dtype=torch.float64, device=middles.device) + 0.5
    place = torch.searchsorted(middles, wanted).clamp(1, middles.shape[0] - 1)
    left, right = middles[place - 1], middles[place]
    share = ((wanted - left) / (right - left).clamp_min(1e-300)).clamp(0, 1)
    return spectrum.values[place - 1] * (1 - share) + spectrum.values[place] * share
