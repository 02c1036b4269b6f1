"""How far any matrix of rank r is from D, at least: a bound on the best approximation, from one that is at hand.

Let U have r orthonormal columns, A = U^H D and E = D - U A, so that D D^H in a basis (U, U_perp) is

    [ A A^H      A E^H ]
    [ E A^H      E E^H ].

By Eckart & Young the squared error of the best matrix of rank r is  ||D||^2 - sum_{i <= r} lambda_i(D D^H). With
G = E A^H = Q R (Q orthonormal) and tau >= ||E||_2^2, E E^H is at most tau I, so that the r leading eigenvalues of D D^H
are at most those of

    [ A A^H   R^H   ]
    [ R       tau I ]      with tau repeated,                                                      (1)

and the best squared error is at least  ||E||^2 - (their sum - ||A||^2): what the leading vectors could still gain. The
sums are of float64, whose rounding is added to the gain. Nothing is assumed of where U comes from.

**tau.** A block Krylov run on E E^H from p random columns b_j. If its largest eigenvalue were t, its eigenvector u
would obey |<u, b_j>| <= || sum_i g_ij c_i / (theta_i - t) || (relation (1) of `completeness`) for every j. tau is the
least value beyond which that bound is improbably small, P(chi^2_p <= p w^2) = `FAILURE`, for every t; at most
||E||_F^2.

Source: Eckart & Young 1936; Horn & Johnson, Matrix Analysis, Corollary 4.3.12 (monotonicity); the norm bound follows
    Kuczynski & Wozniakowski 1992 as in `completeness`. Difference: the derivation above.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.angles import residual_rounding
from spectra.linalg.completeness import Cell, Components, Interval, amplitude
from spectra.linalg.krylov import BlockLanczos, RitzPairs, random_columns, smaller_gram
from spectra.linalg.operators import Dense, LinearOperator
from spectra.linalg.placement import numbers
from spectra.linalg.threads import one_thread

# Random columns of the run that bounds the norm, and its steps at most: tau is then some per cent above the true value.
COLUMNS = 12
STEPS = 12
# Before so many steps the bound says little; the run ends when the bracket of the error is no wider than this share of
# it. (Chance is asked about the random columns once, however often the run is looked at.)
FIRST_LOOK = 5
NARROW_ENOUGH = 2e-3
# Intervals of t, each this many times as far from the largest Ritz value as the one below it, down to a share of it.
INTERVAL_RATIO = 2**0.25
NEAREST_SHARE = 1e-4
# A residual entry may be off by the rounding of D and of a product of r terms; their norm by about this many roundings.
RESIDUAL_ROUNDINGS = 8.0
# The sums that the gain is a difference of may be off by this many roundings of float64.
GAIN_ROUNDINGS = 16.0


@dataclass(frozen=True)
class ErrorBracket:
    """What is known of the approximation of D by given factors, and by the best of their rank.

    Attributes:
        error: ||D - B A||_F, measured.
        least: No matrix of that rank is closer to D than this (but for a probability of 1e-9).
        spectral: Upper bound of ||D - B A||_2.
        spectral_found: Lower bound of the same.
    """

    error: float
    least: float
    spectral: float
    spectral_found: float

    def scaled(self, factor: float) -> "ErrorBracket":
        """The bracket of a multiple of D."""
        return ErrorBracket(*(factor * number for number in astuple(self)))


def error_bracket(
    E: Float[Tensor, "d_out d_in"],
    A: Float[Tensor, "rank d_in"],
    norm: float,
    *,
    seed: int = 0,
) -> ErrorBracket:
    """Bracket the error of the best matrix of rank r around that of D = U A + E, U orthonormal and U^H E = 0.

    Args:
        E: What the factors leave out.
        A: U^H D.
        norm: ||D||_F, which rounding is relative to.
        seed: Of the random columns.

    Returns:
        The bracket; `least` is 0 where the error is no more than rounding.

    Source: statement (1) above. Difference: none.
    Cost: at most `STEPS` passes with `COLUMNS` columns and one product with r, and eigenproblems of size 2 r.
    """
    rounding = RESIDUAL_ROUNDINGS * torch.finfo(E.dtype).eps * norm
    error = frobenius(E)
    gain = possible_gain(E, A)

    def least(bound: float) -> float:
        return max(max(error**2 - gain(bound + rounding), 0.0) ** 0.5 - rounding, 0.0)

    enough = (1 - NARROW_ENOUGH) * error - rounding
    by_rows = Dense(E if E.stride(1) == 1 else E.mH)
    found, bound = norm_bracket(by_rows, error, seed=seed, suffices=lambda bound: least(bound) >= enough)
    return ErrorBracket(error, least(bound), bound + rounding, found)


def possible_gain(E: Float[Tensor, "d_out d_in"], A: Float[Tensor, "rank d_in"]) -> Callable[[float], float]:
    """The most by which the r leading eigenvalues of D D^H can exceed ||A||_F^2 in sum, by (1).

    Args:
        E: The residual.
        A: U^H D.

    Returns:
        The gain as a function of an upper bound of ||E||_2.
    """
    rank = A.shape[0]
    if rank == 0:
        return lambda spectral: 0.0
    R = numbers(torch.linalg.qr(Dense(E).matmat(A.mH).double(), mode="r").R)
    A = A.double()
    own, captured = numbers(A @ A.mH), float(A.square().sum())
    one = torch.eye(R.shape[0], dtype=R.dtype)

    @one_thread()
    def gain(spectral: float) -> float:
        tau = spectral**2
        whole = torch.cat([torch.cat([own, R.mH], dim=1), torch.cat([R, tau * one], dim=1)])
        values = torch.linalg.eigvalsh(whole).flip(0)
        # tau is repeated: none of the r leading eigenvalues is smaller.
        rounding = GAIN_ROUNDINGS * torch.finfo(values.dtype).eps * max(captured, rank * tau)
        return max(float(values[:rank].clamp_min(tau).sum()) - captured, 0.0) + rounding

    return gain


def norm_bracket(
    E: LinearOperator, frobenius: float, *, seed: int = 0, suffices: Callable[[float], bool] = lambda bound: False
) -> tuple[float, float]:
    """Bounds on ||E||_2: a Ritz value below, and above what chance lets a run from random columns miss.

    Args:
        E: The matrix.
        frobenius: ||E||_F, or an upper bound of it.
        seed: Of the random columns.
        suffices: True for an upper bound that is small enough for the caller.

    Returns:
        Lower and upper bound; the upper one fails with a probability of at most `completeness.FAILURE`.

    Source: module docstring. Difference: none.
    """
    if frobenius <= 0:
        return 0.0, 0.0
    like = torch.empty(min(E.shape), 0, dtype=E.dtype, device=E.device)
    columns = min(COLUMNS, min(E.shape))
    run = BlockLanczos(random_columns(columns, like, seed), random=columns)
    for step in range(1, STEPS + 1):
        run.advance(smaller_gram(E, run.pending))
        over = run.exhausted or step == STEPS
        if not over and step < FIRST_LOOK:
            continue
        found, bound = _norm_bracket(run.ritz(), E.dtype, run.basis.shape[1] == min(E.shape))
        bound = min(bound, frobenius)
        if over or suffices(bound):
            break
    return found, bound


def _norm_bracket(pairs: RitzPairs, dtype: torch.dtype, whole: bool) -> tuple[float, float]:
    """The bounds that a run gives as it stands; `whole` where its space is the whole one."""
    largest = float(pairs.values[0].clamp_min(0))
    limit = amplitude(pairs.random.shape[1], 1, 0)
    if whole:
        bound = largest + float(residual_rounding(pairs, dtype)[0])
    else:
        bound = max(_largest_possible(pairs, dtype, limit), largest) if limit else float("inf")
    return largest**0.5, bound**0.5


@one_thread()
def _largest_possible(pairs: RitzPairs, dtype: torch.dtype, limit: float) -> float:
    """The least tau above the largest Ritz value such that no t >= tau can be an eigenvalue, but for chance."""
    components = Components(pairs, residual_rounding(pairs, dtype))
    top = float(pairs.values[0])
    highest = max(components.image_norm() / limit, 2 * top)  # beyond it the bound of the image suffices
    steps = [NEAREST_SHARE * top]
    while top + steps[-1] < highest:
        steps.append(INTERVAL_RATIO * steps[-1])
    edges = [top + step for step in steps]
    beyond = Cell(0, -1, top)  # no pair of its own
    large = components.over([Interval(*ends, beyond, 0) for ends in pairwise(edges)]) >= limit
    return edges[int(large.nonzero().max()) + 1] if bool(large.any()) else edges[0]


def frobenius(W: Float[Tensor, "d_out d_in"]) -> float:
    """||W||_F: norms of the rows (or columns, as they lie in memory), their squares summed in float64."""
    rows = W if W.stride(1) == 1 else W.mH
    return float(torch.linalg.vector_norm(rows, dim=1).double().square().sum()) ** 0.5
