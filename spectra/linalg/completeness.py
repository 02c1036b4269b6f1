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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
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
TERMS = 5
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
    error, values = residual_rounding(pairs, dtype), pairs.values.tolist()
    cells = _cells(values, error.tolist(), at_most)
    limit = amplitude(pairs.random.shape[1], pairs.dimension, max((cell.group for cell in cells), default=1))
    if not cells or cells[-1].last + 1 < at_least or limit == 0:
        return None
    components = Components(pairs, error)
    # A missing eigenvalue shows first at the borders of the cells, far from the found ones.
    sound = cells[: _leading(components.at([cell.border for cell in cells]) < limit)]
    if not sound or sound[-1].last + 1 < at_least:
        return None
    pending = _intervals(sound, values[0], components.image_norm() / limit)
    for depth in range(LARGEST_DEPTH):
        pending = [narrow for each in pending for narrow in each.narrowed(values)]
        loud = (components.over(pending) >= limit).tolist()
        again = [each for each, is_loud in zip(pending, loud, strict=True) if is_loud]
        if depth == LARGEST_DEPTH - 1 and again:
            sound = sound[: min(each.number for each in again)]
        if depth == LARGEST_DEPTH - 1 or not again:
            break
        pending = [half for each in again for half in each.halves()]
    count = sound[-1].last + 1 if sound else 0
    return Count(sound[-1].border, count) if count >= max(at_least, 1) else None


class Components:
    """The right-hand side of (1) for all random columns, over intervals of t."""

    def __init__(self, pairs: RitzPairs, error: Float[Tensor, " n"]) -> None:
        self.values, self.coupling, self.G = pairs.values, pairs.coupling, pairs.random
        # Single precision is ample for sums that are compared with a limit of a thousandth or more.
        self.products = (self.G[:, :, None] * self.coupling.mH[:, None, :]).flatten(1, 2).float()
        self.sizes = pairs.residuals[:, None] * self.G.abs()
        self.errors = (error[:, None] * self.G) ** 2

    def at(self, points: Sequence[float]) -> Float[Tensor, " m"]:
        """The largest bound of the columns at each t, over all Ritz pairs."""
        inverse = 1 / (self.values[None, :] - self.values.new_tensor(points)[:, None])
        return (self._norms(inverse) + (inverse**2 @ self.errors).sqrt()).max(dim=1).values

    def over(self, intervals: "Sequence[Interval]") -> Float[Tensor, " m"]:
        """The largest bound of the columns for t in each interval, over the Ritz pairs that are not of its cell."""
        table = [(each.centre, each.halfwidth, each.cell.first, each.cell.last) for each in intervals]
        centres, h, first, last = self.values.new_tensor(table)[:, :, None].unbind(1)
        index = torch.arange(self.values.shape[0], device=self.values.device)
        offset = torch.where((index < first) | (index > last), self.values - centres, torch.inf)
        inverse, nearest = 1 / offset, 1 / (offset.abs() - h).clamp_min(1e-300)
        total = (nearest**2 @ self.errors).sqrt()
        power, ratio = inverse, inverse * h
        for _ in range(TERMS if self.coupling.shape[0] else 0):
            total = total + self._norms(power)
            power = power * ratio
        # What follows the last term: the geometric series of each pair.
        total = total + (power.abs() * nearest * offset.abs().nan_to_num(posinf=0.0)) @ self.sizes
        return total.max(dim=1).values

    def _norms(self, weights: Float[Tensor, "m n"]) -> Float[Tensor, "m p"]:
        """|| sum_i weight_i g_ij c_i || of every column."""
        total = (weights.float() @ self.products).unflatten(1, (self.G.shape[1], -1))
        return torch.linalg.vector_norm(total, dim=2).double()

    def image_norm(self) -> float:
        """max_j ||H b_j||: an eigenvector with eigenvalue t has a component of at most this over t."""
        along = torch.linalg.vector_norm(self.values[:, None] * self.G, dim=0)
        return float(torch.hypot(along, torch.linalg.vector_norm(self.coupling @ self.G, dim=0)).max())


class Cell(NamedTuple):
    """A part of the axis around neighbouring Ritz pairs, down to a border between it and the next one."""

    first: int
    last: int
    border: float

    @property
    def group(self) -> int:
        """Pairs that share it."""
        return self.last - self.first + 1


class Interval(NamedTuple):
    """A part of a cell, which is the one of this number."""

    low: float
    high: float
    cell: Cell
    number: int

    @property
    def centre(self) -> float:
        """The middle."""
        return (self.low + self.high) / 2

    @property
    def halfwidth(self) -> float:
        """Half of its length."""
        return (self.high - self.low) / 2

    def halves(self) -> "tuple[Interval, Interval]":
        """The lower and the upper half."""
        return self._replace(high=self.centre), self._replace(low=self.centre)

    def narrowed(self, values: Sequence[float]) -> "Iterator[Interval]":
        """The same interval, cut until each part is narrow against its distance to the Ritz values of other cells."""
        above = values[self.cell.first - 1] - self.centre if self.cell.first else math.inf
        below = self.centre - values[self.cell.last + 1] if self.cell.last + 1 < len(values) else math.inf
        if self.halfwidth <= NARROW * min(above, below):
            yield self
        else:
            for half in self.halves():
                yield from half.narrowed(values)


def _cells(values: Sequence[float], error: Sequence[float], at_most: int) -> list[Cell]:
    """The leading cells, as far as no crowd of values stands in the way."""
    cells: list[Cell] = []
    start = 0
    for i, value in enumerate(values):
        following = values[i + 1] if i + 1 < len(values) else 0.0
        if value - following <= SHARED_ERRORS * error[i]:
            continue
        if i - start >= LARGEST_GROUP or start >= at_most:
            break
        cells.append(Cell(start, i, (value + following) / 2))
        start = i + 1
    return cells


def _intervals(cells: Sequence[Cell], top: float, largest: float) -> list[Interval]:
    """The t above the lowest border as intervals; no eigenvalue lies above `largest`."""
    highs = [2 * top, *(cell.border for cell in cells)]
    inner = [Interval(cell.border, highs[i], cell, i) for i, cell in enumerate(cells)]
    while highs[0] < largest:
        inner.append(Interval(highs[0], 4 * highs[0], cells[0], 0))
        highs[0] *= 4
    return inner


def _leading(flags: Bool[Tensor, " n"]) -> int:
    """How many flags are set before the first that is not."""
    return int(torch.cumprod(flags.int(), dim=0).sum())
