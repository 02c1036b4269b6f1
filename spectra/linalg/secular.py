"""The rank-one secular equation: a matrix plus one direction, solved in the singular basis of the matrix.

With W0 = U0 diag(S0) Vh0 and unit vectors u, v given by their coordinates in that basis, z > 0 is a singular value of
W0 + theta u v^T exactly where

    K(z) = [[a(z), c(z) - 1/theta], [c(z) - 1/theta, b(z)]]  is singular,
    a(z) = sum_i z u_i^2 / (z^2 - s_i^2) + |u_outside|^2 / z,    b(z) the same with v,
    c(z) = sum_i s_i u_i v_i / (z^2 - s_i^2).

For a given theta that is a root to be searched. For a given z it is solved at once:

    1/theta = c(z) + sqrt(a(z) b(z))   or   1/theta = c(z) - sqrt(a(z) b(z)),     where a(z) b(z) >= 0,

and the coordinates of the left vector, which are its cosines to every u_i, follow from the null vector of K. Both a and
b fall from +inf to -inf between two singular values of W0. So there is a stretch above each s_j where both are positive
and one below it where both are negative. On each of them the first solution, followed away from s_j to the turning
point where a b = 0, and the second, followed back, make one path on which 1/theta falls throughout. By the inertia of K
the j-th singular value of W0 + theta u v^T lies on one of the two paths that start at s_j, whatever theta > 0 is.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spectra.linalg.svd import SVD

HALVINGS = 32  # of the logarithm of a distance, to find where a path turns: to 1e-8 of it
NEAREST = 1e-20  # of a gap between two singular values: a path that turns before is not seen
BLOCK = 2**18  # numbers at a time: what is computed of them stays in the cache
INSIDE = 1 - 1e-12  # of a gap: a path never meets the singular value at its other end


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


@dataclass(frozen=True, eq=False)
class Points:
    """Points of paths: the sizes of the update that lead there, and what is found there.

    Attributes:
        sizes: theta; inf where no positive size leads there. Along a path they increase.
        singular_values: z, a singular value of W0 + theta u v^T.
        max_cosines: max_i |<u_i, y>| of its left vector y.
    """

    sizes: Float[Tensor, "p g"]
    singular_values: Float[Tensor, "p g"]
    max_cosines: Float[Tensor, "p g"]


@dataclass(frozen=True, eq=False)
class Paths:
    """Where singular values of W0 + theta u v^T lie for theta > 0; one row per path.

    Attributes:
        S0: All singular values of W0, decreasing, float64.
        directions: The pair of every path.
        pair: Its number among the pairs asked for.
        start: Number of the singular value of W0 where the path starts.
        reach: Distance from there to the turning point, negative where the path leads below.
    """

    S0: Float[Tensor, " n"]
    directions: Directions
    pair: Int[Tensor, " p"]
    start: Int[Tensor, " p"]
    reach: Float[Tensor, " p"]

    def __getitem__(self, which: Tensor) -> "Paths":
        """The chosen paths."""
        return Paths(self.S0, self.directions[which], self.pair[which], self.start[which], self.reach[which])

    def at(self, x: Float[Tensor, "p g"]) -> Points:
        """The points at 0 < x < 1 of every path, which turns at 1/2, or ends at 1 if it leads above s_1.

        Source: the master equation of Benaych-Georges & Nadakuditi 2012 (J. Multivariate Anal. 111), section 4, before
            its limit is taken.
            Difference: finite n and given directions, where a, b and c do not become phi, phi-tilde and 0; and it is
            solved for theta.
        Cost: O(n) per point.
        """
        rows = torch.arange(x.shape[0]).split(max(1, BLOCK // (x.shape[1] * self.S0.shape[0])))
        parts = [self[which]._at(x[which]) for which in rows]
        return Points(*(torch.cat(columns) for columns in zip(*parts, strict=True)))

    def _at(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        turns = ((self.start > 0) | (self.reach < 0))[:, None]
        # Many points where cosines change fast: near singular values of W0, and at a turning point.
        equation = _Equation(self, self.reach[:, None] * torch.where(turns, torch.sin(math.pi * x) ** 3, x**6))
        branch = torch.where(turns & (x > 0.5), -1.0, 1.0) * self.reach.sign()[:, None]
        inverse_sizes = equation.inverse_sizes(branch)
        sizes = torch.where(inverse_sizes > 0, 1 / inverse_sizes, math.inf)
        return sizes, equation.z, equation.max_cosines(branch)

    @cached_property
    def products(self) -> Float[Tensor, "p n 3"]:
        """u_i^2, v_i^2 and s_i u_i v_i, but for that of the value where the path starts, which is 0."""
        u, v = self.directions.u, self.directions.v
        products = torch.stack([u**2, v**2, self.S0 * u * v], dim=2)
        return products.scatter_(1, self.start[:, None, None].expand(-1, 1, 3), 0.0)

    def exist_at(self, distances: Float[Tensor, "p g"]) -> Bool[Tensor, "p g"]:
        """Whether the path comes this far from its start: a and b are positive there, or negative where it goes below.

        Both fall with z, so what is near enough to the start comes before what is not.
        """
        equation = _Equation(self, self.reach.sign()[:, None] * distances)
        return (equation.a > 0) & (equation.b > 0)


class _Equation:
    """a, b and c of paths at some distances from where each starts, at the value s of W0.

    There they have a pole, and one of the two solutions is a difference of large numbers. So the term of s is kept
    apart, as u_s^2, v_s^2 and u_s v_s, and a and b are those above times z^2 - s^2: positive and finite on the path.
    """

    def __init__(self, paths: Paths, offsets: Float[Tensor, "p g"]) -> None:
        self.paths, S0, start = paths, paths.S0, paths.start[:, None]
        self.s = S0[start]
        self.z = self.s + offsets
        # Factored, and seen from the start of the path: a small gap loses no digit.
        self.gaps = ((self.s - S0)[:, None, :] + offsets[:, :, None]) * (self.z[:, :, None] + S0)
        self.own = start[:, :, None].expand(-1, offsets.shape[1], 1)
        self.gap = self.gaps.gather(2, self.own)[:, :, 0]
        u, v = paths.directions.u, paths.directions.v
        self.u, self.v = u.gather(1, start), v.gather(1, start)
        sums = (1 / self.gaps) @ paths.products
        self.other_a = self.z * sums[:, :, 0] + paths.directions.u_outside[:, None] ** 2 / self.z
        self.other_b = self.z * sums[:, :, 1] + paths.directions.v_outside[:, None] ** 2 / self.z
        self.other_c = sums[:, :, 2]
        self.a, self.b = self.z * self.u**2 + self.gap * self.other_a, self.z * self.v**2 + self.gap * self.other_b

    def inverse_sizes(self, branch: Float[Tensor, "p g"]) -> Float[Tensor, "p g"]:
        """1/theta = c + branch sqrt(a b)."""
        uv, a, b, c = self.u * self.v, self.other_a, self.other_b, self.other_c
        product = 2 * self.s * uv * c - uv**2 - self.z * (self.u**2 * b + self.v**2 * a) + self.gap * (c**2 - a * b)
        root = (self.a * self.b).clamp_min(0).sqrt()
        return _sum_over(self.s * uv + self.gap * c, branch * root, self.gap, product)

    def max_cosines(self, branch: Float[Tensor, "p g"]) -> Float[Tensor, "p g"]:
        """max_i |<u_i, y>| with  y_i = (z u_i alpha + s_i v_i beta) / (z^2 - s_i^2)  up to length."""
        directions = self.paths.directions
        alpha, beta = self.b.clamp_min(0).sqrt(), branch * self.a.clamp_min(0).sqrt()
        y = (self.z * alpha)[:, :, None] * directions.u[:, None, :]
        y += beta[:, :, None] * (self.paths.S0 * directions.v)[:, None, :]
        y /= self.gaps
        su, sv = self.z * self.u, self.s * self.v
        product = self.z * (self.u * self.v) ** 2 + su**2 * self.other_b - sv**2 * self.other_a
        y.scatter_(2, self.own, _sum_over(su * alpha, sv * beta, self.gap, product)[:, :, None])
        outside = directions.u_outside[:, None] * alpha / self.z
        length = torch.hypot(torch.linalg.vector_norm(y, dim=2), outside)
        return torch.linalg.vector_norm(y, ord=math.inf, dim=2) / length.clamp_min(torch.finfo(y.dtype).tiny)


def _sum_over(first: Tensor, second: Tensor, gap: Tensor, product: Tensor) -> Tensor:
    """(first + second) / gap, by way of  product = (first^2 - second^2) / gap  where the two cancel."""
    return torch.where(first * second < 0, product / (first - second), (first + second) / gap)


def leading_paths(S0: Float[Tensor, " n"], directions: Directions, k: int, *, largest: float) -> Paths:
    """The paths on which the k leading singular values of W0 + theta u v^T lie for 0 < theta <= largest.

    Args:
        S0: All singular values of W0, decreasing, float64.
        directions: The unit pairs.
        k: Values wanted; all n if there are fewer.
        largest: Size of the update up to which the paths of the largest value are followed.

    Returns:
        At most two paths per pair and value. A value that W0 has more than once and that the update leaves in place is
        on none: its vectors are not unique.

    Source: Haynsworth's inertia formula, for the number of the singular value.
    Cost: O(m n k) for each of `HALVINGS` steps.
    """
    k = min(k, S0.shape[0])
    gaps = -torch.diff(S0, append=S0.new_zeros(1))
    above = torch.cat([S0.new_tensor([largest]), gaps[: k - 1]])
    start, room = torch.arange(k).repeat(2), torch.cat([above, -gaps[:k]])
    m = directions.u.shape[0]
    pair = torch.arange(m).repeat_interleave(2 * k)
    paths = Paths(S0, directions[pair], pair, start.repeat(m), INSIDE * room.repeat(m))
    low, high = NEAREST * paths.reach.abs(), paths.reach.abs()
    some = ((high > 0) & paths.exist_at(low[:, None])[:, 0]).nonzero()[:, 0]
    paths, low, high = paths[some], low[some], high[some]
    for _ in range(HALVINGS):
        middle = (low * high).sqrt()
        further = paths.exist_at(middle[:, None])[:, 0]
        low, high = torch.where(further, middle, low), torch.where(further, high, middle)
    return Paths(S0, paths.directions, paths.pair, paths.start, low * paths.reach.sign())


def _missing(coordinates: Tensor) -> Tensor:
    return (1 - coordinates.pow(2).sum(dim=1)).clamp_min(0).sqrt()
