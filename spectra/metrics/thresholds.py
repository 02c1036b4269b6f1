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
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from spectra.errors import SpectrumError
from spectra.linalg.secular import Directions, Paths, leading_paths, random_directions
from spectra.metrics.intruders import require_epsilon

POINTS = 65  # looked at on each path of a singular value; one is where it turns
ROUNDS, FINER = 2, 16  # of a closer look at a dip between two of them, each so much finer
SMALLEST, LARGEST = 1e-6, 6.0  # sizes that are told apart, as multiples of sigma_1
END = 1e-4  # of a path, beyond which it has as good as met the next one
PRECISION = 1e-6  # of a size
HALVINGS = 60  # at most, when a crossing is found or the transform is inverted


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
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        phi, phi_tilde, _ = _transform(S, shape, middle)
        low, high = (middle, high) if phi * phi_tilde > 1 / theta**2 else (low, middle)
    phi, phi_tilde, slope = _transform(S, shape, high)
    return Outlier(high, -2 * phi / (theta**2 * slope), -2 * phi_tilde / (theta**2 * slope))


def critical_sizes(S0: Float[Tensor, " n"], directions: Directions, *, k: int, epsilon: float) -> Float[Tensor, " m"]:
    """The smallest theta at which one of the k leading left vectors of W0 + theta u v^T is an intruder, per pair.

    theta_c = inf { theta > 0 : exists j < k,  max_i |<u_i, y_j(theta)>| < epsilon }.

    The count need not grow with theta: while the new singular value passes one of W0, the two vectors mix and neither
    may count. The first crossing is meant.

    Args:
        S0: All singular values of W0, decreasing.
        directions: Unit pairs (u, v) in the basis of W0.
        k: Leading vectors looked at.
        epsilon: Cosine in (0, 1] below which a vector counts.

    Returns:
        The sizes, to one part in a million. Just above each the definition counts an intruder. Below it counts none,
        unless two crossings lie closer together than the search sees: it looks at `POINTS` of each path of a singular
        value, and closer at every dip of the largest cosine between them. A size below 1e-6 sigma_1 becomes that; inf
        where there is none up to 6 sigma_1 (a direction that W0 already has).

    Raises:
        SpectrumError: If W0 is zero or epsilon lies outside (0, 1].

    Source: the definition is Shuttleworth et al., arXiv:2410.21228, Definition 3.1; the equation Benaych-Georges &
        Nadakuditi 2012.
        Difference: exact for finite n and the directions at hand, each by itself; what several directions of one
        update do together is not seen.
    Cost: O(m n k POINTS).
    """
    require_epsilon(epsilon)
    if float(S0[0]) <= 0:
        raise SpectrumError("W0 has only zero singular values, so no update has a critical size. Leave it out.")
    S0 = S0.double().cpu()
    smallest, largest = SMALLEST * float(S0[0]), LARGEST * float(S0[0])
    paths = leading_paths(S0, directions, k, largest=largest)
    sizes = _first_sizes(paths, directions.u.shape[0], epsilon, largest)
    return torch.where(sizes <= largest, sizes.clamp_min(smallest), math.inf)


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
        The sizes, increasing; 6 sigma_1, where the search ends, for a draw that makes none before.

    Raises:
        SpectrumError: As `critical_sizes`; or if S0 does not have min(shape) values.

    Source: simulation of the model of Benaych-Georges & Nadakuditi 2012 at finite n.
        Difference: none of its limits; the median over draws is quoted, because the verdict of one draw hangs on a
        few vectors of W0.
    """
    _require_spectrum(S0, shape)
    generator = torch.Generator().manual_seed(seed)
    sizes = critical_sizes(S0, random_directions(shape, draws, generator), k=k, epsilon=epsilon)
    return sizes.clamp_max(LARGEST * float(S0[0])).sort().values


def _first_sizes(paths: Paths, pairs: int, epsilon: float, largest: float) -> Float[Tensor, " pairs"]:
    """The smallest size, per pair, at which one of its paths has a largest cosine below epsilon; inf where none has."""
    x = torch.linspace(0, 1, POINTS, dtype=torch.float64)
    x[0], x[-1] = END, 1 - END
    points = paths.at(x.expand(paths.start.shape[0], -1))
    below = points.max_cosines < epsilon
    best = _least(torch.where(below, points.sizes, math.inf).amin(dim=1), paths.pair, pairs).clamp_max(largest)
    # Sizes increase along a path: only what comes before its first crossing, and before `best`, can be the first.
    before = pad(points.sizes, (1, 0))[:, :-1] < best[paths.pair][:, None]
    crossing, at = (before & (below.cumsum(dim=1) == 1) & below).nonzero().unbind(dim=1)
    cosines = pad(points.max_cosines, (1, 1), value=1.0)
    dips = (points.max_cosines <= cosines[:, :-2]) & (points.max_cosines <= cosines[:, 2:])
    dipping, bottom = (before & (below.cumsum(dim=1) == 0) & dips).nonzero().unbind(dim=1)
    ends = pad(x, (1, 1))
    ends[-1] = 1
    bottoms = _bottoms(paths[dipping], ends[bottom], ends[bottom + 2])
    deep = paths[dipping].at(bottoms[:, None]).max_cosines[:, 0] < epsilon
    which = torch.cat([crossing, dipping[deep]])
    low, high = torch.cat([ends[at], ends[bottom[deep]]]), torch.cat([x[at], bottoms[deep]])
    return _least(_crossings(paths[which], low, high, epsilon), paths.pair[which], pairs)


def _bottoms(paths: Paths, left: Tensor, right: Tensor) -> Float[Tensor, " p"]:
    """Where the largest cosine is smallest between two points of each path, by a grid that is made finer around it.

    It is a continuous function with kinks, so no derivative is of use.
    """
    steps = torch.linspace(0, 1, FINER + 1, dtype=torch.float64)
    lowest = torch.zeros(left.shape[0], 1, dtype=torch.long)
    for _ in range(ROUNDS):
        x = left[:, None] + (right - left)[:, None] * steps
        lowest = paths.at(x[:, 1:-1]).max_cosines.argmin(dim=1, keepdim=True) + 1
        left, right = (x.gather(1, lowest + side)[:, 0] for side in (-1, 1))
    return (left + right) / 2


def _crossings(paths: Paths, low: Tensor, high: Tensor, epsilon: float) -> Float[Tensor, " p"]:
    """The sizes at which the largest cosine, at least epsilon at `low`, falls below it on the way to `high`.

    Sizes increase along a path, so those at both ends enclose what is sought.
    """
    at_low, at_high = torch.zeros_like(low), paths.at(high[:, None]).sizes[:, 0]
    for _ in range(HALVINGS):
        # inf - inf is no number: such a path is done
        if not bool((at_high - at_low > PRECISION * at_high).any()):
            break
        middle = (low + high) / 2
        points = paths.at(middle[:, None])
        below, size = points.max_cosines[:, 0] < epsilon, points.sizes[:, 0]
        low, high = torch.where(below, low, middle), torch.where(below, middle, high)
        at_low, at_high = torch.where(below, at_low, size), torch.where(below, size, at_high)
    return at_high


def _least(values: Tensor, which: Tensor, count: int) -> Float[Tensor, " count"]:
    """The smallest of the values of each group, inf where a group has none."""
    return torch.full((count,), math.inf, dtype=torch.float64).scatter_reduce(0, which, values, "amin")


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
