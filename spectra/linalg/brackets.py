"""A bracket of max_i |<u_i, y_j>| over all singular vectors u_i of W0, for several y_j at once."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Brackets:
    """Lower and upper bounds on the largest cosine, split by what they rest on.

    Attributes:
        lower: Largest proven cosine to a known singular vector of W0 (0 when none is known).
        known: Largest possible cosine to any of the known singular vectors.
        rest: Largest possible cosine to any other singular vector; infinite when nothing is proven.
    """

    lower: Float[Tensor, " k"]
    known: Float[Tensor, " k"]
    rest: Float[Tensor, " k"]

    @staticmethod
    def unknown(k: int) -> "Brackets":
        """Brackets that say nothing: [0, 1]."""
        zeros = torch.zeros(k, dtype=torch.float64)
        return Brackets(zeros, zeros, torch.full_like(zeros, float("inf")))

    @property
    def upper(self) -> Float[Tensor, " k"]:
        """max(known, min(rest, sqrt(1 - lower^2))): squared cosines to orthonormal vectors sum to at most 1."""
        others = torch.minimum(self.rest, (1 - self.lower**2).clamp_min(0).sqrt())
        return torch.maximum(torch.maximum(self.known, others), self.lower).clamp(max=1.0)

    def with_more_known(self, other: "Brackets") -> "Brackets":
        """Join with brackets that know further singular vectors; `other.rest` speaks of what neither knows."""
        return Brackets(torch.maximum(self.lower, other.lower), torch.maximum(self.known, other.known), other.rest)

    def widened(self, sin_angles: Float[Tensor, " k"]) -> "Brackets":
        """Brackets for the true y when the y at hand is off by these angles:  |<u, y>| moves by at most sin(angle)."""
        return Brackets(
            (self.lower - sin_angles).clamp_min(0), (self.known + sin_angles).clamp(max=1.0), self.rest + sin_angles
        )

    def next_target(self, epsilons: Float[Tensor, " e"]) -> Float[Tensor, " k"]:
        """The smallest epsilon above `lower`: the one that the upper bound has to get below; infinity when none is."""
        above = torch.where(epsilons[None, :] > self.lower[:, None], epsilons[None, :], float("inf"))
        return above.min(dim=1).values

    def is_open(self, epsilons: Float[Tensor, " e"]) -> Bool[Tensor, " k"]:
        """True where  lower < epsilon <= upper  for some epsilon: the verdict is not decided there."""
        return self.next_target(epsilons) <= self.upper

    def select(self, index: Tensor) -> "Brackets":
        """The brackets at some positions."""
        return Brackets(self.lower[index], self.known[index], self.rest[index])

    def replaced(self, index: Tensor, other: "Brackets") -> "Brackets":
        """A copy with new brackets at some positions."""
        fields = (self.lower, self.known, self.rest), (other.lower, other.known, other.rest)
        return Brackets(*(mine.index_copy(0, index, new) for mine, new in zip(*fields, strict=True)))


def brackets_from_known(
    coordinates: Float[Tensor, "n k"],
    lengths: Float[Tensor, " k"],
    sin_angles: Float[Tensor, " n"],
    scales: Float[Tensor, " n"],
) -> Brackets:
    """Brackets from approximate singular vectors u^_l with angle bounds: rest stays unproven.

    With u = cos(phi) u^ + sin(phi) w, w a unit vector orthogonal to u^,

        |<u^, y>| cos(phi) - sqrt(||y||^2 - <u^, y>^2) sin(phi)  <=  |<u, y>|  <=  |<u^, y>| + (same root) sin(phi).

    Args:
        coordinates: <u^_l, y_j>, or <v^_l, W0^H y_j> in right space.
        lengths: ||y_j||, or ||W0^H y_j||.
        sin_angles: Bound on sin(phi_l).
        scales: 1, or sigma_l in right space, by which the cosines are divided.
    """
    found = coordinates.abs()
    beside = (lengths[None, :] ** 2 - found**2).clamp_min(0).sqrt()
    sines, scales = sin_angles[:, None], scales[:, None].clamp_min(1e-300)
    least = (found * (1 - sines**2).clamp_min(0).sqrt() - beside * sines) / scales
    most = (found + beside * sines) / scales
    nothing = Brackets.unknown(coordinates.shape[1])
    if not coordinates.shape[0]:
        return nothing
    return Brackets(least.max(dim=0).values.clamp(0, 1), most.max(dim=0).values.clamp(0, 1), nothing.rest)
