"""The rank-one secular equation: a matrix plus one direction, solved in the singular basis of the matrix.

With W0 = U0 diag(S0) Vh0 and unit vectors u, v given by their coordinates in that basis, z > 0 is a singular value of
W0 + theta u v^T exactly where

    K(z) = [[a(z), c(z) - 1/theta], [c(z) - 1/theta, b(z)]]  is singular,
    a(z) = sum_i z u_i^2 / (z^2 - s_i^2) + |u_outside|^2 / z,    b(z) the same with v,
    c(z) = sum_i s_i u_i v_i / (z^2 - s_i^2),

and its inertia counts how many singular values lie above z. So each one is found by bisection at O(n) a step, and the
coordinates of its left vector, which are its cosines to every u_i, follow from the null vector of K. Many directions
are solved at once.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.svd import SVD

BISECTIONS = 36  # halvings of a gap between two singular values: to 1e-11 of it
POLE = 1e-13  # of sigma_1^2: nearer to a pole than this, the terms of the determinant cancel to rounding


@dataclass(frozen=True, eq=False)
class Directions:
    """Unit pairs (u, v) seen from the singular basis of W0, in float64; one row per pair.

    Attributes:
        u: <u_i, u> for all left singular vectors of W0.
        v: <v_i, v> for all right singular vectors of W0.
        u_outside: Norm of the part of u outside the span of U0 (tall W0 only).
        v_outside: Norm of the part of v outside the span of V0 (wide W0 only).
    """

    u: Float[Tensor, "m n"]
    v: Float[Tensor, "m n"]
    u_outside: Float[Tensor, " m"]
    v_outside: Float[Tensor, " m"]

    def __getitem__(self, which: Tensor) -> "Directions":
        """The chosen pairs."""
        return Directions(self.u[which], self.v[which], self.u_outside[which], self.v_outside[which])


@dataclass(frozen=True, eq=False)
class LeadingCosines:
    """Leading singular values of W0 + theta u v^T per pair, and each left vector's largest |cos| to a vector of W0."""

    S: Float[Tensor, "m k"]
    max_cosines: Float[Tensor, "m k"]


def directions_in_basis(base: SVD, U: Float[Tensor, "d_out m"], Vh: Float[Tensor, "m d_in"]) -> Directions:
    """The coordinates of unit pairs (columns of U, rows of Vh) on the CPU; what is missing to length one is outside."""
    along_u, along_v = (U.mH @ base.U).double().cpu(), (Vh @ base.Vh.mH).double().cpu()
    return Directions(along_u, along_v, _missing(along_u), _missing(along_v))


def random_directions(shape: tuple[int, int], count: int, generator: torch.Generator) -> Directions:
    """Pairs drawn uniformly from the unit spheres: no vector of W0 is needed for them."""
    n = min(shape)
    drawn = (torch.randn(count, d, generator=generator, dtype=torch.float64) for d in shape)
    u, v = (x / torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in drawn)
    return Directions(
        u[:, :n], v[:, :n], torch.linalg.vector_norm(u[:, n:], dim=1), torch.linalg.vector_norm(v[:, n:], dim=1)
    )


def rank_one_leading(
    S0: Float[Tensor, " n"], directions: Directions, thetas: Float[Tensor, " m"], k: int
) -> LeadingCosines:
    """The k leading singular values of W0 + theta u v^T, exactly, with their largest cosines.

    Args:
        S0: All singular values of W0, decreasing, float64.
        directions: The unit pairs.
        thetas: Size of each, positive.
        k: Vectors wanted; all n if there are fewer.

    Returns:
        Values and cosines by decreasing singular value, one row per pair.

    Source: the master equation of Benaych-Georges & Nadakuditi 2012 (J. Multivariate Anal. 111), section 4, before
        its limit is taken; Haynsworth's inertia formula gives the count.
        Difference: finite n and given directions; in the limit a, b, c become phi, phi-tilde and 0.
    Cost: O(m n k) for each of `BISECTIONS` steps.
    """
    k = min(k, S0.shape[0])
    padded = torch.cat([S0, S0.new_zeros(1)])
    low = padded[1 : k + 1].repeat(thetas.shape[0], 1)
    # A rank-one update moves no value past its two neighbours, and the largest one by theta at most.
    high = torch.cat([S0[0] + thetas[:, None], S0[: k - 1].repeat(thetas.shape[0], 1)], dim=1)
    equation = _Equation(S0, directions, thetas)
    wanted = torch.arange(k, device=S0.device)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        above = equation.count_above(middle) > wanted
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    return LeadingCosines(middle, equation.largest_cosines(middle))


class _Equation:
    """K(z) of several pairs, each at several z."""

    def __init__(self, S0: Tensor, directions: Directions, thetas: Tensor) -> None:
        self.S0, self.directions, self.thetas = S0, directions, thetas
        u, v = directions.u, directions.v
        self.weights = torch.stack([u**2, v**2, S0 * u * v], dim=2)
        self.squares = S0**2
        self.floor = POLE * float(self.squares[0])
        self.tiny = torch.finfo(S0.dtype).tiny

    def inverse_gaps(self, z: Tensor) -> Tensor:
        """1 / (z^2 - s_i^2); a z that has met a pole stands just beside it, where a b - (c - 1/theta)^2 is not lost."""
        gaps = (z * z)[:, :, None] - self.squares
        return 1 / torch.where(gaps.abs() < self.floor, torch.where(gaps < 0, -self.floor, self.floor), gaps)

    def entries(self, inverse: Tensor, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """a, b and c - 1/theta at every z."""
        sums = inverse @ self.weights
        per_z = 1 / z.clamp_min(self.tiny)
        a = z * sums[:, :, 0] + self.directions.u_outside[:, None] ** 2 * per_z
        b = z * sums[:, :, 1] + self.directions.v_outside[:, None] ** 2 * per_z
        return a, b, sums[:, :, 2] - 1 / self.thetas[:, None]

    def count_above(self, z: Tensor) -> Tensor:
        """Singular values of the updated matrix above each z: those of W0, plus positive eigenvalues of K, minus 1."""
        a, b, q = self.entries(self.inverse_gaps(z), z)
        positive = torch.where(a * b < q * q, 1, torch.where(a + b > 0, 2, 0))
        in_base = self.S0.shape[0] - torch.searchsorted(self.S0.flip(0), z.contiguous(), right=True)
        return in_base + positive - 1

    def largest_cosines(self, z: Tensor) -> Tensor:
        """max_i |<u_i, y>| of the left singular vectors that belong to the roots z."""
        inverse = self.inverse_gaps(z)
        a, b, q = self.entries(inverse, z)
        first = a.abs() > b.abs()  # the row of K with the larger entry gives its null vector with less cancellation
        alpha, beta = torch.where(first, -q, b)[:, :, None], torch.where(first, a, -q)[:, :, None]
        u, v = self.directions.u[:, None, :], (self.S0 * self.directions.v)[:, None, :]
        y = (z[:, :, None] * u * alpha + v * beta) * inverse
        outside = self.directions.u_outside[:, None] * alpha[:, :, 0] / z.clamp_min(self.tiny)
        length = torch.sqrt(y.pow(2).sum(dim=2) + outside**2)
        return y.abs().amax(dim=2) / length.clamp_min(self.tiny)


def _missing(coordinates: Tensor) -> Tensor:
    return (1 - coordinates.pow(2).sum(dim=1)).clamp_min(0).sqrt()
