"""How large an update must be before it makes a leading singular vector of its own.

Three answers about  W0 + theta u v^T,  all from the spectrum of W0:

- `outlier`: where the rectangular spiked-deformation transform puts the new singular value, and how much of the new
  vectors is u and v. It is the limit of large n for directions that know nothing of W0.
- `critical_sizes`: the smallest theta at which one of the k leading vectors meets the *definition* of an intruder, for
  given directions, exactly (`linalg.secular`).
- `random_critical_sizes`: the same for directions drawn at random. Near the threshold a single vector of W0 decides
  the verdict, so the sizes of different draws scatter; their median is the prediction, their range belongs to it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import SpectrumError
from spectra.linalg.secular import Directions, random_directions, rank_one_leading
from spectra.metrics.intruders import require_epsilon

RATIO = 1.05  # step of the search for the first crossing
TOGETHER = 8  # values tried in one call
REFINEMENTS = 5  # halvings of the step, on the logarithm: the result is good to 0.2 %
ROUNDS = 2  # of a closer look at a dip between two steps, each eight times finer than the one before
BELOW, BEYOND = 0.3, 6.0  # the search runs from BELOW * sigma_k to BEYOND * sigma_1
SHARPNESS = 60  # halvings when the transform is inverted


@dataclass(frozen=True)
class Outlier:
    """What the transform predicts of a spike of size theta.

    Attributes:
        singular_value: Where the new singular value lies.
        left_overlap: |<u, u_new>|^2.
        right_overlap: |<v, v_new>|^2.
    """

    singular_value: float
    left_overlap: float
    right_overlap: float


def outlier(S: Float[Tensor, " n"], shape: tuple[int, int], theta: float) -> Outlier:
    """The singular value and the overlaps of a spike  theta u v^T  above all singular values S of a matrix.

    phi(z)   = 1/d_out (sum_i z/(z^2 - s_i^2) + (d_out - n)/z),   phi~(z) the same with d_in,   D = phi phi~,
    the new value solves  D(z) = 1/theta^2,  z > s_1;  overlaps  -2 phi / (theta^2 D')  and  -2 phi~ / (theta^2 D').

    Args:
        S: All n = min(shape) singular values of the matrix, decreasing.
        shape: (d_out, d_in).
        theta: Size of the spike, positive.

    Returns:
        The prediction. On a finite spectrum a root exists for every theta; below the threshold 1/sqrt(D(b+)) of the
        limit it clings to s_1 and the overlaps are near zero.

    Raises:
        SpectrumError: If theta is not positive, or S does not have n values.

    Source: Benaych-Georges & Nadakuditi 2012, J. Multivariate Anal. 111, Theorems 2.8 and 2.9.
        Difference: the empirical spectrum stands for its limit.
    """
    _require_size(theta)
    _require_spectrum(S, shape)
    S = S.double()
    low, high = float(S[0]), float(S[0]) + theta  # sigma_1(W0 + theta u v^T) never exceeds the sum of the norms
    for _ in range(SHARPNESS):
        middle = (low + high) / 2
        phi, phi_tilde, _ = _transform(S, shape, middle)
        low, high = (middle, high) if phi * phi_tilde > 1 / theta**2 else (low, middle)
    phi, phi_tilde, slope = _transform(S, shape, high)
    return Outlier(high, -2 * phi / (theta**2 * slope), -2 * phi_tilde / (theta**2 * slope))


def critical_sizes(S0: Float[Tensor, " n"], directions: Directions, *, k: int, epsilon: float) -> Float[Tensor, " m"]:
    """The smallest theta at which one of the k leading left vectors of W0 + theta u v^T is an intruder, per pair.

    theta_c = inf { theta : exists j < k,  max_i |<u_i, y_j(theta)>| < epsilon }.

    The count need not grow with theta: while the new singular value passes one of W0, the two vectors mix and neither
    may count. The first crossing is meant.

    Args:
        S0: All singular values of W0, decreasing.
        directions: Unit pairs (u, v) in the basis of W0.
        k: Leading vectors looked at.
        epsilon: Cosine below which a vector counts.

    Returns:
        The sizes, good to 0.2 %; inf where there is none below 6 sigma_1 (a direction that W0 already has). A search
        in steps of 5 % is followed by a closer look at every dip of the smallest largest cosine between them; a dip
        that does not show at three neighbouring steps is still missed.

    Raises:
        SpectrumError: If W0 is zero or epsilon lies outside (0, 1].

    Source: the definition is Shuttleworth et al., arXiv:2410.21228, Definition 3.1; the equation Benaych-Georges &
        Nadakuditi 2012.
        Difference: exact for finite n and the directions at hand, each by itself; what several directions of one
        update do together is not seen.
    Cost: about 100 times that of `rank_one_leading`.
    """
    require_epsilon(epsilon)
    if float(S0[0]) <= 0:
        raise SpectrumError("W0 has only zero singular values, so no update has a critical size. Leave it out.")
    S0 = S0.double().cpu()
    start = BELOW * max(float(S0[min(k, S0.shape[0]) - 1]), 1e-3 * float(S0[0]))

    def margins(thetas: Tensor, which: Tensor) -> Tensor:
        return rank_one_leading(S0, directions[which], thetas, k).max_cosines.amin(dim=1) - epsilon

    def are_crossed(thetas: Tensor, which: Tensor) -> Tensor:
        return margins(thetas, which) < 0

    found = first_crossings(are_crossed, directions.u.shape[0], start, BEYOND * float(S0[0]))
    earlier = torch.tensor(
        [_first_dip(margins, one, start, min(size, BEYOND * float(S0[0]))) for one, size in enumerate(found.tolist())],
        dtype=torch.float64,
    )
    return torch.minimum(found, earlier)


def random_critical_sizes(
    S0: Float[Tensor, " n"], shape: tuple[int, int], *, k: int, epsilon: float, draws: int = 9, seed: int = 0
) -> Float[Tensor, " draws"]:
    """`critical_sizes` of directions drawn uniformly at random: theta-bar is their median.

    Args:
        S0: All singular values of W0, decreasing. No singular vector is needed.
        shape: (d_out, d_in).
        k: Leading vectors looked at.
        epsilon: Cosine below which a vector counts.
        draws: Directions.
        seed: Of the draws.

    Returns:
        The sizes, increasing.

    Raises:
        SpectrumError: As `critical_sizes`; or if S0 does not have min(shape) values.

    Source: simulation of the model of Benaych-Georges & Nadakuditi 2012 at finite n.
        Difference: none of its limits; the median over draws is quoted, because the verdict of one draw hangs on a
        few vectors of W0.
    """
    _require_spectrum(S0, shape)
    generator = torch.Generator().manual_seed(seed)
    return critical_sizes(S0, random_directions(shape, draws, generator), k=k, epsilon=epsilon).sort().values


def first_crossings(
    are_crossed: Callable[[Tensor, Tensor], Tensor], count: int, start: float, stop: float
) -> Float[Tensor, " count"]:
    """The first values at which `count` conditions hold, by geometric steps of `RATIO` and bisection of the step.

    Args:
        are_crossed: From values and the indices of the conditions they are for, True where the condition holds; of
            several increasing values for one condition only the first True is looked at.
        count: Number of conditions.
        start: First value tried.
        stop: About the last value tried.

    Returns:
        The values; inf where a condition holds nowhere.
    """
    found = torch.full((count,), math.inf, dtype=torch.float64)
    steps = RATIO ** torch.arange(TOGETHER, dtype=torch.float64)
    while start <= stop and bool((waiting := found.isinf().nonzero()[:, 0]).numel()):
        values = start * steps
        hit = are_crossed(values.repeat(waiting.numel()), waiting.repeat_interleave(TOGETHER)).view(-1, TOGETHER)
        crossed = hit.any(dim=1)
        found[waiting[crossed]] = values[hit[crossed].int().argmax(dim=1)]
        start = float(values[-1]) * RATIO
    which = found.isfinite().nonzero()[:, 0]
    high, low = found[which], found[which] / RATIO
    for _ in range(REFINEMENTS if which.numel() else 0):
        middle = (low * high).sqrt()
        hit = are_crossed(middle, which)
        low, high = torch.where(hit, low, middle), torch.where(hit, middle, high)
    found[which] = high
    return found


def _first_dip(margins: Callable[[Tensor, Tensor], Tensor], one: int, start: float, stop: float) -> float:
    """The first value up to `stop` at which a margin that is positive at every coarse step falls below zero, or inf.

    The margin is a continuous function with kinks. Around each of its local minima on the grid, the grid is made finer
    by 8 in each of `ROUNDS` rounds.
    """
    if stop <= start:
        return math.inf
    steps = math.ceil(math.log(stop / start) / math.log(RATIO)) + 1
    grid = start * RATIO ** torch.arange(steps, dtype=torch.float64)
    grid = torch.cat([grid[grid < stop], torch.tensor([stop], dtype=torch.float64)])

    def at(thetas: Tensor) -> Tensor:
        return margins(thetas, torch.full((thetas.shape[0],), one))

    # The step in which the search found its crossing may hold an earlier one.
    last = float(grid[-2]) * (stop / float(grid[-2])) ** torch.linspace(0, 1, TOGETHER + 1, dtype=torch.float64)[:-1]
    grid = torch.cat([grid[:-2], last, grid[-1:]])
    values = at(grid)
    if bool((early := (values[:-1] < 0).nonzero()[:, 0]).numel()):
        # Inside the last step: nothing after it is of interest.
        values, grid = values[: int(early[0]) + 1], grid[: int(early[0]) + 1]
    inner = (values[1:-1] <= values[:-2]) & (values[1:-1] <= values[2:])
    for middle in (inner.nonzero()[:, 0] + 1).tolist():
        low, high = float(grid[middle - 1]), float(grid[middle + 1])
        for _ in range(ROUNDS):
            fine = low * (high / low) ** torch.linspace(0, 1, 2 * TOGETHER + 1, dtype=torch.float64)
            depths = at(fine)
            if bool((below := (depths < 0).nonzero()[:, 0]).numel()):
                first = int(below[0])
                return _bisected(at, float(fine[max(first - 1, 0)]), float(fine[first]))
            lowest = int(depths.argmin())
            low, high = float(fine[max(lowest - 1, 0)]), float(fine[min(lowest + 1, fine.shape[0] - 1)])
    return _bisected(at, float(grid[-2]), float(grid[-1])) if len(grid) > 1 and float(values[-1]) < 0 else math.inf


def _bisected(at: Callable[[Tensor], Tensor], low: float, high: float) -> float:
    """Where a margin that is positive at `low` and negative at `high` crosses zero."""
    for _ in range(REFINEMENTS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if float(at(torch.tensor([middle], dtype=torch.float64))[0]) < 0 else (middle, high)
    return high


def _transform(S: Tensor, shape: tuple[int, int], z: float) -> tuple[float, float, float]:
    """phi, phi~ and D' at z > s_1."""
    d_out, d_in = shape
    n = S.shape[0]
    gaps = (z - S) * (z + S)
    total = float((z / gaps).sum())
    slope = -float(((z * z + S * S) / gaps**2).sum())
    phi, phi_tilde = ((total + (d - n) / z) / d for d in shape)
    phi_slope, tilde_slope = ((slope - (d - n) / z**2) / d for d in (d_out, d_in))
    return phi, phi_tilde, phi_slope * phi_tilde + phi * tilde_slope


def _require_size(theta: float) -> None:
    if not theta > 0:
        raise SpectrumError(f"The size of an update is {theta}, and it must be positive. Leave out zero updates.")


def _require_spectrum(S: Tensor, shape: tuple[int, int]) -> None:
    if S.shape[0] != min(shape):
        raise SpectrumError(
            f"{S.shape[0]} singular values were given for a {shape[0]} x {shape[1]} matrix, which has {min(shape)}. "
            "Give all of them, zeros included."
        )
