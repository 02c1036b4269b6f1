"""The best matrix of low rank near a dense one, with the bracket that says how good it is.

The leading triplets come from block Krylov iteration from random columns, or from a whole factorisation where the
matrix is small or the rank is not; either way the bracket (`eckart_young`) is found afterwards, from what the factors
leave out. A factorisation at random (a randomised SVD) has no such bracket, and a gap that it misses shows nowhere.
"""

import math
from collections.abc import Callable
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
LARGEST_BLOCK = 96
BESIDE = 16
BLOCK_UNKNOWN = 32
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
    norm = frobenius(D)
    # Seen from its smaller side, where the iteration runs: W has no more rows than columns.
    turned = D.shape[0] >= D.shape[1]
    W = D.mH if turned else D
    U, S, method = _leading(D, rule, norm, seed)
    # Rotated within their span to singular vectors; values that are rounding of the norm are no part of the update.
    Q, R = torch.linalg.qr((U.mH @ W).mH.double())
    core = thin_svd(R.mH)
    rank = int((RESIDUAL_ROUNDINGS * torch.finfo(D.dtype).eps * norm < core.S).sum())
    U = (U.double() @ core.U[:, :rank]).to(D.dtype)
    A = (core.S[:rank, None] * (core.Vh[:rank] @ Q.mH)).to(D.dtype)
    S = torch.cat([numbers(core.S), S[core.S.shape[0] :]])
    W.addmm_(U, A, alpha=-1)
    bracket = error_bracket(W, A, norm, seed=seed + 1)
    if method == "svd":
        bracket = _known(bracket, S, rank, norm, D)
    # Powers of two move no digit, so that B A is what was measured.
    shares = torch.exp2(torch.round(torch.log2(core.S[:rank]) / 2)).to(D.dtype)
    U, A = U * shares, A / shares[:, None]
    B, A = (A.mH, U.mH) if turned else (U, A)
    return Truncation(B.contiguous(), A.contiguous(), S, norm, bracket, method)


@full_precision()
def leading_values(D: Float[Tensor, "d_out d_in"], count: int, *, seed: int = 0) -> Float[Tensor, " n"]:
    """The leading singular values of D, as `truncated` finds them at that rank: at least `count`, or all of them."""
    require_finite(D)
    return _leading(D, lambda squares, total: min(count, min(D.shape)), frobenius(D), seed)[1]


def _known(bracket: ErrorBracket, S: Tensor, rank: int, norm: float, D: Tensor) -> ErrorBracket:
    """The bracket where all singular values are known, which is the sharper one."""
    # Each value may be off by a few roundings of the largest one, and independently of the others.
    rounding = (RESIDUAL_ROUNDINGS + S.shape[0] ** 0.5) * torch.finfo(D.dtype).eps * norm
    least = max(float(torch.linalg.vector_norm(S[rank:])) - rounding, 0.0)
    return ErrorBracket(
        bracket.error, max(bracket.least, min(least, bracket.error)), bracket.spectral, bracket.spectral_found
    )


def _leading(D: Tensor, rule: RankRule, norm: float, seed: int) -> tuple[Tensor, Tensor, str]:
    """Singular vectors of the smaller side, as many as the rule asks for; the singular values found; the method."""
    n = min(D.shape)
    if norm == 0:
        return D.new_zeros(n, 0), torch.zeros(n, dtype=torch.float64), "svd"
    found = None if n <= FACTORISED_UP_TO else _by_krylov(D, rule, norm, seed)
    if found is not None:
        return found
    svd = thin_svd(D)
    S = numbers(svd.S)
    rank = rule(S.square(), float(S.square().sum()))
    vectors = svd.Vh.mH if D.shape[0] >= D.shape[1] else svd.U
    return vectors[:, : n if rank is None else rank], S, "svd"


def _by_krylov(D: Tensor, rule: RankRule, norm: float, seed: int) -> tuple[Tensor, Tensor, str] | None:
    """The same from a Krylov space; None where it would become too large."""
    operator, n, total = Dense(D), min(D.shape), norm**2
    known = rule(torch.zeros(0, dtype=torch.float64), total)
    width = BLOCK_UNKNOWN if known is None else max(LEAST_BLOCK, min(known // 4 + BESIDE, LARGEST_BLOCK))
    run = BlockLanczos(random_columns(width, D.new_empty(n, 0), seed))
    limit = int(LARGEST_SHARE * n)
    if known is not None and known >= limit:
        return None
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
            rank = min(squares.shape[0] if rank is None else rank, squares.shape[0])
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
    U = torch.linalg.qr(run.ritz_vectors(pairs, rank).double()).Q.to(D.dtype)
    return U, squares.sqrt(), "krylov"


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
