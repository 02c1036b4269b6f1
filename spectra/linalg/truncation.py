"""The best matrix of low rank near a dense one, with the bracket that says how good it is.

The leading triplets come from block Krylov iteration from random columns, or from a whole factorisation where the
matrix is small or the rank is not; either way the bracket (`eckart_young`) is found afterwards, from what the factors
leave out. A factorisation at random (a randomised SVD) has no such bracket, and a gap that it misses shows nowhere.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.eckart_young import RESIDUAL_ROUNDINGS, ErrorBracket, error_bracket, frobenius
from spectra.linalg.krylov import BlockLanczos, random_columns, smaller_gram
from spectra.linalg.operators import Dense
from spectra.linalg.placement import numbers
from spectra.linalg.precision import full_precision
from spectra.linalg.svd import require_finite, thin_svd

# Up to this size a whole factorisation costs little.
FACTORISED_UP_TO = 512
# A Krylov space of more than this share of the smaller dimension costs as much as a factorisation.
LARGEST_SHARE = 0.3
# Random columns of the start: a quarter of the rank and some more. With fewer than the rank a space of the same size
# holds higher powers of D; with still fewer a pass costs no less, since it waits for the memory.
LEAST_BLOCK = 24
BESIDE = 16
BLOCK_UNKNOWN = 32
LARGEST_NARROW = 96
# Where that is not enough, as many as triplets are wanted and a few more.
BESIDE_WIDE = 8
LARGEST_BLOCK = 128
# It is enough where the bracket is no wider than this share of the error.
WIDEST_BRACKET = 0.02
# Share of ||D||_F^2 that the values of a Krylov space in single precision do not resolve.
UNRESOLVED = 1e-6
# ||D||_F between these needs no scaling.
NEAR_ONE = 2.0**-16, 2.0**16
LARGEST_EXPONENT = 120
# The iteration ends when the triplets could lower the squared error by no more than this share of it.
GAIN_TOLERANCE = 1e-3
# A look at the projected problem costs as much as a pass: at most so many steps from one to the next.
LONGEST_WAIT = 3
# ... and a value that the choice of the rank rests on is known to this share of it.
VALUE_TOLERANCE = 0.05

# From the largest squared singular values that are known, and ||D||_F^2, to a rank; None where they are too few.
RankRule = Callable[[Float[Tensor, " n"], float], int | None]


@dataclass(frozen=True, eq=False)
class Truncation:
    """Factors B @ A of low rank near D.

    Attributes:
        B: (d_out, rank): orthogonal columns, each of a length that is a power of two near the root of its S.
        A: (rank, d_in).
        S: The leading singular values that were found, at least as many as the rank; float64, on the CPU.
        norm: ||D||_F.
        bracket: The error of the factors, and of the best ones.
        method: "svd" or "krylov".
    """

    B: Float[Tensor, "d_out rank"]
    A: Float[Tensor, "rank d_in"]
    S: Float[Tensor, " n"]
    norm: float
    bracket: ErrorBracket
    method: str

    @property
    def rank(self) -> int:
        """Columns of B."""
        return self.B.shape[1]


@full_precision()
def truncated(D: Float[Tensor, "d_out d_in"], rule: RankRule, *, seed: int = 0) -> Truncation:
    """The leading triplets of D as factors, as many as the rule asks for, with the bracket of their error.

    Args:
        D: The matrix; it is overwritten by what the factors leave out.
        rule: Says which rank, from the leading squared singular values and ||D||_F^2.
        seed: Of the random columns.

    Raises:
        SpectrumError: If D has a non-finite entry, or LAPACK does not converge.

    Source: Eckart & Young 1936. Block Krylov iteration: Musco & Musco 2015, arXiv:1504.05477.
        Difference: the iteration ends by the residuals, and the result is bracketed.
    Cost: about ten passes with a quarter as many columns as the rank and 16 more, and those of `error_bracket`.
    """
    require_finite(D)
    power = _brought_near_one(D)
    norm = frobenius(D)
    rounding = RESIDUAL_ROUNDINGS * torch.finfo(D.dtype).eps * norm
    # Seen from its smaller side, where the iteration runs: W has no more rows than columns.
    turned = D.shape[0] >= D.shape[1]
    W = D.mH if turned else D
    for found in _candidates(D, rule, norm, seed):
        # Rotated within their span to singular vectors; values that are rounding of the norm are no part of the update.
        Q, R = torch.linalg.qr((found.U.mH @ W).mH.double())
        core = thin_svd(R.mH)
        rank = int((rounding < core.S).sum())
        U = (found.U.double() @ core.U[:, :rank]).to(D.dtype)
        A = (core.S[:rank, None] * (core.Vh[:rank] @ Q.mH)).to(D.dtype)
        W.addmm_(U, A, alpha=-1)
        bracket = error_bracket(W, A, norm, seed=seed + 1)
        if found.method == "svd" or bracket.error <= rounding:
            break
        if found.is_whole and bracket.least >= (1 - WIDEST_BRACKET) * bracket.error - rounding:
            break
        W.addmm_(U, A)
    S = torch.cat([numbers(core.S), found.S[core.S.shape[0] :]])
    if found.method == "svd":
        bracket = _known(bracket, S, rank, norm, D)
    # Powers of two move no digit, so that B A is what was measured.
    shares = torch.exp2(torch.round(torch.log2(core.S[:rank] * power) / 2)).to(D.dtype)
    U, A = U * shares, A / shares[:, None] * power
    B, A = (A.mH, U.mH) if turned else (U, A)
    return Truncation(B.contiguous(), A.contiguous(), S * power, norm * power, bracket.scaled(power), found.method)


@full_precision()
def leading_values(D: Float[Tensor, "d_out d_in"], count: int, *, seed: int = 0) -> Float[Tensor, " n"]:
    """The leading singular values of D, as `truncated` finds them at that rank: at least `count`, or all of them.

    D may be scaled by a power of two.
    """
    require_finite(D)
    power = _brought_near_one(D)
    norm = frobenius(D)
    for found in _candidates(D, fixed_rank(min(count, min(D.shape))), norm, seed):
        if found.is_whole or float(found.S.square().sum()) >= (1 - UNRESOLVED) * norm**2:
            break
    return found.S * power


def _brought_near_one(D: Tensor) -> float:
    """Scale D in place by a power of two where its size is far from 1, since squares of squares are formed of it.

    Returns:
        The power that scales it back.
    """
    if NEAR_ONE[0] <= frobenius(D) <= NEAR_ONE[1]:
        return 1.0
    peak = float(torch.linalg.vector_norm(D, ord=math.inf))
    if peak == 0:
        return 1.0
    power = 2.0 ** max(min(math.frexp(peak)[1], LARGEST_EXPONENT), -LARGEST_EXPONENT)
    D.mul_(1 / power)
    return power


def _known(bracket: ErrorBracket, S: Tensor, rank: int, norm: float, D: Tensor) -> ErrorBracket:
    """The bracket where all singular values are known, which is the sharper one."""
    # Each value may be off by a few roundings of the largest one, and independently of the others.
    rounding = (RESIDUAL_ROUNDINGS + S.shape[0] ** 0.5) * torch.finfo(D.dtype).eps * norm
    least = max(float(torch.linalg.vector_norm(S[rank:])) - rounding, 0.0)
    return ErrorBracket(
        bracket.error, max(bracket.least, min(least, bracket.error)), bracket.spectral, bracket.spectral_found
    )


@dataclass(frozen=True, eq=False)
class _Found:
    """Singular vectors of the smaller side, as many as the rule asks for, unless a space was exhausted too early.

    Attributes:
        U: The vectors as columns.
        S: The singular values that were found.
        method: "svd" or "krylov".
        is_whole: False where there are fewer vectors than the rule asks for.
    """

    U: Tensor
    S: Tensor
    method: str
    is_whole: bool = True


def _candidates(D: Tensor, rule: RankRule, norm: float, seed: int) -> Iterator[_Found]:
    """What a narrow Krylov space finds, then a wide one, then a factorisation.

    A block that is narrower than a value is often repeated takes long to find all of its vectors, and a space of D^H D
    in single precision does not reach below a thousandth of the largest value: the bracket shows either.
    """
    n = min(D.shape)
    if norm == 0:
        yield _Found(D.new_zeros(n, 0), torch.zeros(n, dtype=torch.float64), "svd")
        return
    known = rule(torch.zeros(0, dtype=torch.float64), norm**2)
    narrow = BLOCK_UNKNOWN if known is None else max(LEAST_BLOCK, min(known // 4 + BESIDE, LARGEST_NARROW))
    wide = LARGEST_BLOCK if known is None else min(known + BESIDE_WIDE, LARGEST_BLOCK)
    for width in (narrow, wide) if narrow < wide else (narrow,):
        found = None if n <= FACTORISED_UP_TO else _by_krylov(D, rule, norm, width, seed)
        if found is not None:
            yield found
    svd = thin_svd(D)
    S = numbers(svd.S)
    rank = rule(S.square(), float(S.square().sum()))
    vectors = svd.Vh.mH if D.shape[0] >= D.shape[1] else svd.U
    yield _Found(vectors[:, : n if rank is None else rank], S, "svd")


def _by_krylov(D: Tensor, rule: RankRule, norm: float, width: int, seed: int) -> _Found | None:
    """The vectors from the Krylov space of a random block of this width; None where it would become too large."""
    operator, n, total = Dense(D), min(D.shape), norm**2
    known = rule(torch.zeros(0, dtype=torch.float64), total)
    limit = int(LARGEST_SHARE * n)
    if known is not None and known >= limit:
        return None
    run = BlockLanczos(random_columns(width, D.new_empty(n, 0), seed))
    before, waited, wait = float("inf"), 1, 0
    while True:
        if not run.exhausted:
            if run.basis.shape[1] + width > limit:
                return None
            run.advance(smaller_gram(operator, run.pending))
            wait -= 1
        if not run.exhausted and (run.basis.shape[1] <= (known or 0) or wait > 0):
            continue
        pairs = run.ritz()
        squares = pairs.values.clamp_min(0)
        rank = rule(squares, total)
        if run.exhausted:
            break
        if rank is None or rank >= squares.shape[0]:
            continue
        shortfall = _shortfall(squares, pairs.residuals, rank, total, chosen=known is None)
        if shortfall <= 1:
            break
        # The next look waits for half the steps that are due at this rate.
        rate = math.log(before / shortfall) / waited
        due = math.log(shortfall) / rate if 0 < rate < math.inf else 1.0
        waited = wait = max(min(int(due / 2), LONGEST_WAIT), 1)
        before = shortfall
    count = squares.shape[0] if rank is None else min(rank, squares.shape[0])
    U = torch.linalg.qr(run.ritz_vectors(pairs, count).double()).Q.to(D.dtype)
    return _Found(U, squares.sqrt(), "krylov", is_whole=count == rank)


def _shortfall(squares: Tensor, residuals: Tensor, rank: int, total: float, *, chosen: bool) -> float:
    """By how many times what the leading triplets could still grow, in all, exceeds what is tolerated.

    Each may grow by its residual squared over its distance to the rest. Where the values chose the rank, the first one
    left out has to be settled too, since it only grows.
    """
    following = 0.0
    if chosen:
        following = float(residuals[rank]) / max(VALUE_TOLERANCE * float(squares[rank]), 1e-12 * total)
    gaps = torch.maximum(squares[:rank] - squares[rank], residuals[:rank])
    gain = float((residuals[:rank].square() / gaps.clamp_min(1e-300)).sum())
    left = max(total - float(squares[:rank].sum()), 0.0)
    return max(following, gain / max(GAIN_TOLERANCE * left, 1e-12 * total))


def rank_of_energy(share: float) -> RankRule:
    """The smallest rank whose triplets hold a share of ||D||_F^2."""

    def rule(squares: Tensor, total: float) -> int | None:
        reached = (squares.cumsum(0) >= share * total * (1 - 1e-9)).nonzero()
        return int(reached[0]) + 1 if reached.numel() else None

    return rule


def rank_of_error(share: float) -> RankRule:
    """The smallest rank that leaves out singular values of at most a share of the largest one."""

    def rule(squares: Tensor, total: float) -> int | None:
        if not squares.numel():
            return None
        below = (squares <= share**2 * squares[0]).nonzero()
        return int(below[0]) if below.numel() else None

    return rule


def fixed_rank(rank: int) -> RankRule:
    """A rank that was given."""
    return lambda squares, total: rank


__all__ = ["Truncation", "fixed_rank", "leading_values", "rank_of_energy", "rank_of_error", "truncated"]
