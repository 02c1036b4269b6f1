"""Is a leading eigenvalue missing? The answer that the random columns of a block Krylov run give.

That k Ritz pairs have small residuals says that they are eigenpairs; it does not say that they are the *leading* ones:
an iteration started from eigenvectors never looks elsewhere. The random columns b_1 .. b_p of the start block do. Let H
be the Gram operator with eigenpairs (t, u) and d rows; the b_j are independent of H, with standard normal entries.

**What the run says.** Relation (1) of `certificate`, in the Ritz basis, is  (theta_i - t) a_i + c_i^H b = e_i  with
||b|| <= 1, c_i the coupling of Ritz pair i and e_i the error of the arithmetic. So with b_j = Q g_j,

    |<u, b_j>|  <=  || sum_i g_ij c_i / (theta_i - t) ||  +  sqrt( sum_i (g_ij e_i / (theta_i - t))^2 ).             (1)

Around the leading Ritz values lie cells that cover every t above a limit; neighbours too close to be told apart share a
cell of g = 2 found pairs, any other cell has g = 1. The sums are taken without the own pairs of the cell: they are
smooth there, a Taylor series bounds them over an interval, and they are at most w for all j and all t above the limit.

**What chance says.** If a cell held g + 1 eigenvalues, some unit combination x of their fixed eigenvectors u_0 .. u_g
would be orthogonal to the g found Ritz vectors, so that |<x, b_j>| <= sqrt(g + 1) w for every j: the p x (g + 1) matrix
B^T [u_0 .. u_g] of independent standard normal numbers would have a singular value of at most e = w sqrt(p (g + 1)).
Its smallest singular value is at least the least distance of a column from the span of the others, over sqrt(g + 1);
the square of such a distance is chi-square distributed with p - g degrees of freedom. Eigenvalues in one cell are
neighbours, so that there are at most d such sets:

    P(some cell holds more eigenvalues than were found)  <=  d (g + 1) P(chi^2_{p - g} <= (g + 1) e^2).             (2)

w is chosen so that the right-hand side is `FAILURE`. As every Ritz value has an eigenvalue at or above it (Cauchy), the
eigenvalues above the limit are then exactly as many as the Ritz values above it. Nothing here depends on where the
other columns of the start block came from.

Source: the argument follows Kuczynski & Wozniakowski 1992, "Estimating the largest eigenvalue by the power and Lanczos
    algorithms with a random start". Difference: the polynomial that they bound for the worst spectrum is bounded for
    the run at hand; blocks; several eigenvalues; the derivation above.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spectra.linalg.angles import residual_rounding
from spectra.linalg.krylov import RitzPairs
from spectra.linalg.threads import one_thread

# The probability, per matrix and question, that a leading eigenvalue is missing all the same.
FAILURE = 1e-9
# Found pairs that may share a cell.
LARGEST_GROUP = 2
# Neighbours nearer than this many such errors share a cell.
SHARED_ERRORS = 300.0
# Terms of the Taylor series, for intervals whose half width is at most this share of the distance to the next pole ...
TERMS = 10
NARROW = 1 / 3
# ... and bisections of an interval whose bound is too large, before it is given up.
LARGEST_DEPTH = 4


@lru_cache
def amplitude(columns: int, dimension: int, group: int = 1, failure: float = FAILURE) -> float:
    """w of the module's docstring: components of all random columns below it are as improbable as `failure`.

    Args:
        columns: Random columns p.
        dimension: Rows d of the Gram operator.
        group: Largest number g of found pairs in one cell.
        failure: The right-hand side of (2).

    Returns:
        0 where there are too few columns to say anything.
    """
    if columns <= group + 1:
        return 0.0
    square = chi_square_quantile(columns - group, failure / (dimension * (group + 1)))
    return math.sqrt(square / columns) / (group + 1)


def chi_square_quantile(degrees: int, probability: float) -> float:
    """x with  P(chi^2_degrees <= x) = probability,  from below; for probabilities of less than a half.

    By bisection, with a = degrees / 2 and z = x / 2, of the series of positive terms

        P(chi^2 <= x)  =  z^a e^-z / Gamma(a + 1) (1 + z / (a + 1) + z^2 / ((a + 1) (a + 2)) + ...).

    (scipy has the function, and takes a tenth of a second to import.)
    """
    a = degrees / 2

    def logarithm(x: float) -> float:
        total = term = 1.0
        n = 0
        while term > 1e-17 * total:
            n += 1
            term *= x / (a + n)
            total += term
        return a * math.log(x) - x - math.lgamma(a + 1) + math.log(total)

    low, high = 1e-300, a + 1
    while high - low > 1e-14 * high:
        middle = math.sqrt(low * high) if high > 4 * low else (low + high) / 2
        low, high = (middle, high) if logarithm(middle) < math.log(probability) else (low, middle)
    return 2 * low


@dataclass(frozen=True)
class Count:
    """A statement on the spectrum of H: at most `number` of its eigenvalues exceed `limit`."""

    limit: float
    number: int

    def is_complete(self, values: Float[Tensor, " n"], k: int) -> bool:
        """True when the k leading of these Ritz values are the k leading eigenvalues, approximately."""
        return k <= self.number <= int((values > self.limit).sum())


@one_thread()
def complete_pairs(pairs: RitzPairs, dtype: torch.dtype, *, at_least: int, at_most: int) -> Count | None:
    """How many leading Ritz pairs stand for the leading eigenvalues, none missing above or between them.

    Args:
        pairs: Rayleigh-Ritz data, values decreasing, of a run with random columns.
        dtype: Arithmetic in which the space was built.
        at_least: The least number that is of use.
        at_most: The largest number wanted.

    Returns:
        The count of the eigenvalues above the middle between Ritz values s and s + 1, for the largest s that the run
        speaks of; wrong with a probability of at most `FAILURE`. None where it does not reach `at_least` (yet).

    Cost: some hundred sums over the Ritz pairs, whatever the size of H.
    """
    error = residual_rounding(pairs, dtype)
    cells = _cells(pairs.values, error, at_least, at_most)
    if cells is None:
        return None
    first, last, borders = cells
    group = int((last - first).max()) + 1
    limit = amplitude(pairs.random.shape[1], pairs.dimension, group)
    if limit == 0:
        return None
    components = Components(pairs, error)
    index = torch.arange(pairs.values.shape[0], device=pairs.values.device)
    # A missing eigenvalue shows first at the borders of the cells, far from the found ones.
    everywhere = torch.ones_like(index, dtype=torch.bool).expand(borders.shape[0], -1)
    quiet = components.over(borders, torch.zeros_like(borders), everywhere) < limit
    sound = int(torch.cumprod(quiet.int(), dim=0).sum())
    if not sound or int(last[sound - 1]) + 1 < at_least:
        return None
    first, last, borders = first[:sound], last[:sound], borders[:sound]
    lows, highs, owners = _intervals(pairs.values, components.image_norm() / limit, borders)
    failed = torch.zeros_like(borders, dtype=torch.bool)
    for depth in range(LARGEST_DEPTH):
        kept = (index < first[owners, None]) | (index > last[owners, None])
        lows, highs, owners, kept = _narrowed(pairs.values, lows, highs, owners, kept)
        again = components.over((lows + highs) / 2, (highs - lows) / 2, kept) >= limit
        if depth == LARGEST_DEPTH - 1 or bool(failed[0]):
            failed[owners[again]] = True
        if not bool(again.any()) or bool(failed[0]):
            break
        lows, highs, owners = _halved(lows[again], highs[again], owners[again])
    sound = int(torch.cumprod((~failed).int(), dim=0).sum())
    count = int(last[sound - 1]) + 1 if sound else 0
    return Count(float(borders[sound - 1]), count) if count >= max(at_least, 1) else None


class Components:
    """The right-hand side of (1) for all random columns, over intervals of t."""

    def __init__(self, pairs: RitzPairs, error: Float[Tensor, " n"]) -> None:
        self.values, self.coupling, self.G = pairs.values, pairs.coupling, pairs.random
        # Single precision is ample for sums that are compared with a limit of a thousandth or more.
        self.products = (self.coupling.mH[:, :, None] * self.G[:, None, :]).flatten(1, 2).float()
        self.sizes = pairs.residuals[:, None] * self.G.abs()
        self.errors = (error[:, None] * self.G) ** 2

    def over(
        self, centres: Float[Tensor, " m"], halfwidths: Float[Tensor, " m"], kept: Bool[Tensor, "m n"]
    ) -> Float[Tensor, " m"]:
        """The largest bound of the columns for t within the half width of the centre, over the kept Ritz pairs."""
        h = halfwidths[:, None]
        offset = torch.where(kept, self.values[None, :] - centres[:, None], torch.inf)
        inverse, nearest = 1 / offset, 1 / (offset.abs() - h).clamp_min(1e-300)
        total = (nearest**2 @ self.errors).sqrt()
        power, ratio = inverse, inverse * h
        for _ in range(TERMS if self.coupling.shape[0] else 0):
            term = (power.float() @ self.products).unflatten(1, (-1, self.G.shape[1]))
            total = total + torch.linalg.vector_norm(term, dim=1)
            if not bool(halfwidths.any()):
                return total.max(dim=1).values
            power = power * ratio
        # What follows the last term: the geometric series of each pair.
        total = total + (power.abs() * nearest * offset.abs().nan_to_num(posinf=0.0)) @ self.sizes
        return total.max(dim=1).values

    def image_norm(self) -> float:
        """max_j ||H b_j||: an eigenvector with eigenvalue t has a component of at most this over t."""
        along = torch.linalg.vector_norm(self.values[:, None] * self.G, dim=0)
        return float(torch.hypot(along, torch.linalg.vector_norm(self.coupling @ self.G, dim=0)).max())


def _cells(
    values: Float[Tensor, " n"], error: Float[Tensor, " n"], at_least: int, at_most: int
) -> tuple[Int[Tensor, " c"], Int[Tensor, " c"], Float[Tensor, " c"]] | None:
    """First and last pair and lower border of the leading cells; None where a crowd of values stands in the way."""
    values = torch.cat([values, values.new_zeros(1)])
    shared = (values[:-1] - values[1:] <= SHARED_ERRORS * error).tolist()
    cells: list[tuple[int, int]] = []
    start = 0
    for i in range(len(shared)):
        if shared[i]:
            continue
        if i - start >= LARGEST_GROUP or start >= at_most:
            break
        cells.append((start, i))
        start = i + 1
    if not cells or cells[-1][1] + 1 < at_least:
        return None
    first, last = torch.tensor(cells, device=values.device).unbind(1)
    return first, last, (values[last] + values[last + 1]) / 2


def _intervals(
    values: Float[Tensor, " n"], largest: float, borders: Float[Tensor, " c"]
) -> tuple[Float[Tensor, " m"], Float[Tensor, " m"], Int[Tensor, " m"]]:
    """The t above the lowest border as intervals, each with its cell; no eigenvalue lies above `largest`."""
    above = [2 * float(values[0])]
    while above[-1] < largest:
        above.append(4 * above[-1])
    tops = values.new_tensor(above)
    lows = torch.cat([borders, tops[:-1]])
    highs = torch.cat([tops[:1], borders[:-1], tops[1:]])
    owners = torch.cat([torch.arange(borders.shape[0]), torch.zeros(len(above) - 1, dtype=torch.long)])
    return lows, highs, owners.to(values.device)


def _narrowed(
    values: Tensor, lows: Tensor, highs: Tensor, owners: Tensor, kept: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The same intervals, cut until each is narrow against its distance to the kept Ritz values."""
    done: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    while lows.shape[0]:
        offset = torch.where(kept, (values[None, :] - ((lows + highs) / 2)[:, None]).abs(), torch.inf)
        narrow = (highs - lows) / 2 <= NARROW * offset.min(dim=1).values
        done.append((lows[narrow], highs[narrow], owners[narrow], kept[narrow]))
        kept = kept[~narrow].repeat(2, 1)
        lows, highs, owners = _halved(lows[~narrow], highs[~narrow], owners[~narrow])
    return tuple(torch.cat(parts) for parts in zip(*done, strict=True))  # type: ignore[return-value]


def _halved(lows: Tensor, highs: Tensor, owners: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    middles = (lows + highs) / 2
    return torch.cat([lows, middles]), torch.cat([middles, highs]), owners.repeat(2)
