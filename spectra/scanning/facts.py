"""What is known of a matrix and its tuned version: every factorisation done once, on first use, and shared."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.engine.bounds import CosineBounds
from spectra.engine.cache import FactorCache
from spectra.engine.factors import BaseFactors, TransposedFactors
from spectra.engine.methods import AUTO, METHODS, SMALLEST_SPACE, choose
from spectra.engine.storage import Budget, as_operator
from spectra.engine.tuned import Tuned, adjoint
from spectra.linalg.density import Spectrum, estimated_spectrum, exact_spectrum
from spectra.linalg.operators import Dense, Difference, LinearOperator, LowRankUpdate, RowChunked
from spectra.linalg.placement import for_svd
from spectra.linalg.precision import full_precision
from spectra.linalg.svd import SVD, low_rank_svd, thin_svd
from spectra.linalg.triplets import leading_vectors
from spectra.metrics.retention import diagonal_retention
from spectra.records.verdicts import OneSide
from spectra.scanning.settings import ScanSettings
from spectra.weights import MatrixPair, StoredMatrix
from spectra.weights.methods.changes import Replaced
from spectra.weights.streams.plan import is_far

# Up to this size a full factorisation costs less than the scan around it, and every number is exact.
EXACT_UP_TO = 1024
# A fully tuned matrix beyond this size is streamed, so that a scan holds one large matrix and not two.
TUNED_BYTES = 960 << 20


@dataclass(eq=False)
class BaseFacts:
    """One W0: its norm, its leading triplets, its spectrum.

    Attributes:
        factors: W0 and what the cache knows of it.
        settings: The question.
    """

    factors: BaseFactors
    settings: ScanSettings

    @property
    def W0(self) -> LinearOperator:
        """The matrix."""
        return self.factors.W0

    @property
    def k(self) -> int:
        """Leading vectors looked at: at most the smaller dimension."""
        return min(self.settings.k, *self.W0.shape)

    @property
    def is_small(self) -> bool:
        """True where everything is computed exactly: not where W0 is read block by block to save memory."""
        return min(self.W0.shape) <= EXACT_UP_TO and not isinstance(self.W0, RowChunked)

    @property
    def wants_all(self) -> bool:
        """True where every singular value was asked for, whatever it costs."""
        return self.settings.exact or "tails" in self.settings.groups

    @cached_property
    def frobenius(self) -> float:
        """||W0||_F."""
        return frobenius(self.W0)

    @cached_property
    def leading(self) -> SVD:
        """The k leading triplets, within the angle tolerance of `linalg.triplets`."""
        known = self.factors.leading
        if self.factors.has_full():
            return self.factors.full().leading(self.k)
        if known is not None and known.values.shape[0] >= self.k:
            return triplets(self.W0, known.vectors[:, : self.k], self.smaller_side)
        [found] = leading_vectors(self.W0, [None], self.k, warm=None if known is None else known.vectors)
        return triplets(self.W0, found.U, "left", found.S) if found.converged else self.factors.full().leading(self.k)

    @property
    def smaller_side(self) -> OneSide:
        """The side whose vectors are the shorter ones: eigenvectors of the smaller Gram operator."""
        return "left" if self.W0.shape[0] <= self.W0.shape[1] else "right"

    @cached_property
    def spectrum(self) -> Spectrum:
        """All singular values where they are known, few, or asked for; else an estimate of their distribution."""
        if self.factors.has_full():
            return Spectrum.known(self.factors.full().S)
        if self.wants_all and isinstance(self.W0, RowChunked):
            return Spectrum.known(self.factors.full().S)  # says why not
        if self.is_small or self.wants_all:
            return exact_spectrum(self.W0)
        known = self.factors.leading
        if known is not None:
            return estimated_spectrum(self.W0, known.vectors, known.values.clamp_min(0).sqrt(), seed=self.settings.seed)
        vectors = vectors_of(self.leading, self.smaller_side)
        return estimated_spectrum(self.W0, vectors, self.leading.S, seed=self.settings.seed)


@dataclass(eq=False)
class PairFacts:
    """One tuned version of a base matrix, or a control in its place.

    Attributes:
        base: What is known of W0, shared by all versions.
        tuned: The tuned side.
        bounds: The verdicts' bounds, by side (`judged`).
        noise: ||W_tuned - W0||_F of a dense control, whose directions are random by construction; None otherwise.
    """

    base: BaseFacts
    tuned: Tuned
    bounds: dict[OneSide, CosineBounds]
    noise: float | None = None

    @property
    def sides(self) -> tuple[OneSide, ...]:
        """The sides asked for."""
        return tuple(self.bounds)

    @cached_property
    def W(self) -> LinearOperator:
        """W_tuned."""
        return self.tuned.operator(self.base.W0)

    @cached_property
    def leading(self) -> SVD:
        """The k leading triplets of W_tuned, from those of the first side that was judged."""
        side, bounds = next(iter(self.bounds.items()))
        return triplets(self.W, bounds.U(), side, bounds.S)

    @cached_property
    def retention(self) -> Float[Tensor, " k"]:
        """u_i^H W_tuned v_i / S0_i of the leading k triplets of W0."""
        base = self.base.leading
        return diagonal_retention(base.U, self.W.matmat(base.Vh.mH), base.S)

    @cached_property
    def delta(self) -> LowRankUpdate | LinearOperator:
        """delta_W as factors, as a matrix where it fits, or as a difference of operators."""
        if self.tuned.update is not None:
            return self.tuned.update
        difference = Difference(self.W, self.base.W0)
        both = isinstance(self.W, Dense) and isinstance(self.base.W0, Dense)
        # A formed difference loses no digits of a small update; a control's size is known, and its copy is spared.
        return Dense(difference.dense()) if both and self.noise is None else difference

    @cached_property
    def delta_frobenius(self) -> float:
        """||delta_W||_F."""
        if self.noise is not None:
            return self.noise
        if isinstance(self.delta, LowRankUpdate):
            return float(torch.linalg.vector_norm(self.delta_spectrum.values))
        return frobenius(self.delta)

    @cached_property
    def delta_svd(self) -> SVD | None:
        """All triplets of a low-rank update; the k leading ones of a dense one, or None where they lie too close."""
        if isinstance(self.delta, LowRankUpdate):
            return low_rank_svd(self.delta.B, self.delta.A, self.delta.scaling)
        if self.noise is not None:
            return None
        if self.base.is_small or self.base.settings.exact:
            return thin_svd(self.delta.dense())
        [found] = leading_vectors(self.delta, [None], self.base.k, seed=self.base.settings.seed)
        return triplets(self.delta, found.U, "left", found.S) if found.converged else None

    @cached_property
    def delta_values(self) -> Float[Tensor, " n"]:
        """All singular values of delta_W, whatever they cost; those of a low-rank update are free."""
        known = self.__dict__.get("delta_svd")
        if isinstance(self.delta, LowRankUpdate) or (known is not None and known.S.shape[0] == min(self.delta.shape)):
            svd = self.delta_svd
            return svd.S if svd is not None else torch.zeros(0)
        return torch.linalg.svdvals(for_svd(self.delta.dense()))

    @cached_property
    def delta_spectrum(self) -> Spectrum:
        """Singular values of delta_W: all of a low-rank or a small one, else an estimate of their distribution."""
        small = self.base.is_small or self.base.settings.exact
        if (isinstance(self.delta, LowRankUpdate) or small) and self.delta_svd is not None:
            return Spectrum.known(self.delta_svd.S)
        if isinstance(self.delta, LowRankUpdate):
            raise ValueError("a low-rank update has all its triplets")
        if self.delta_svd is None:
            return estimated_spectrum(self.delta, seed=self.base.settings.seed)
        vectors = vectors_of(self.delta_svd, self.base.smaller_side)
        return estimated_spectrum(self.delta, vectors, self.delta_svd.S, seed=self.base.settings.seed)


@full_precision()
def facts_of(
    pairs: Sequence[MatrixPair], settings: ScanSettings, cache: FactorCache | None = None, *, judge: bool = True
) -> list[PairFacts]:
    """The facts of several tuned versions of one W0; those that nobody asks for are not found out.

    Args:
        pairs: Pairs that share their W0 (the first one's is read).
        settings: The question.
        cache: Where factors of W0 are kept between scans; None keeps them for this call only.
        judge: Reach the verdicts; without them there are no leading vectors of W_tuned.
    """
    own = any(isinstance(pair.change, Replaced) for pair in pairs)
    budget = Budget(settings.memory_bytes, 1 + own)
    base = BaseFacts(base_factors(pairs[0].W0, settings, cache, budget), settings)
    if base.is_small and (settings.wants_controls or "base" in settings.groups):
        base.factors.full()  # every number is then exact, and cheaper than by iteration
    tuned = [tuned_side(pair, settings, budget) for pair in pairs]
    if judge:
        return judged(base, tuned, [None] * len(tuned))
    return [PairFacts(base, each, bounds={}) for each in tuned]


def base_factors(
    stored: StoredMatrix, settings: ScanSettings, cache: FactorCache | None, budget: Budget | None = None
) -> BaseFactors:
    """One W0 as an operator, with what the cache knows of it.

    A matrix without room for a Krylov space is factorised anew each time: that costs no more than reading its factors.
    """
    budget = budget or Budget(settings.memory_bytes)
    W0 = as_operator(stored, dtype=settings.torch_dtype, device=settings.device, budget=budget)
    keeps = cache is not None and min(stored.shape) >= SMALLEST_SPACE * (settings.k + 6)
    return BaseFactors(W0, cache.entry(stored.digest(), W0) if cache is not None and keeps else None)


def tuned_side(pair: MatrixPair, settings: ScanSettings, budget: Budget) -> Tuned:
    """The tuned side as factors where there are factors, else as a matrix of its own, streamed if it is large."""
    update = pair.update(settings.torch_dtype, settings.device)
    if update is not None:
        return Tuned(update=update)
    if isinstance(pair.change, Replaced):
        stored = pair.change.W_tuned
        if settings.memory_bytes is None and not is_far(stored):  # a distant matrix is read once
            budget = Budget(TUNED_BYTES)
        return Tuned(W=as_operator(stored, dtype=settings.torch_dtype, device=settings.device, budget=budget))
    return Tuned(W=Dense(pair.W_tuned(settings.torch_dtype, settings.device)))


def judged(base: BaseFacts, tuned: Sequence[Tuned], noise: Sequence[float | None]) -> list[PairFacts]:
    """The facts of several versions of one W0, their verdicts reached together, one side after the other."""
    bounds: list[dict[OneSide, CosineBounds]] = [{} for _ in tuned]
    for side in base.settings.sides:
        for mine, found in zip(bounds, cosine_bounds(base, tuned, side), strict=True):
            mine[side] = found
    return [PairFacts(base, *each) for each in zip(tuned, bounds, noise, strict=True)]


@full_precision()
def cosine_bounds(base: BaseFacts, tuned: Sequence[Tuned], side: OneSide = "left") -> list[CosineBounds]:
    """The bounds of several versions of one W0, seen from one side: the right vectors are the left ones of W^H."""
    settings, factors = base.settings, base.factors
    if side == "right":
        factors = TransposedFactors(adjoint(base.W0), inner=factors)
        tuned = [each.transposed() for each in tuned]
    epsilons = torch.tensor(settings.all_epsilons, dtype=torch.float64)
    return METHODS[method_of(factors, settings, len(tuned))](factors, tuned, base.k, epsilons)


def method_of(factors: BaseFactors, settings: ScanSettings, versions: int) -> str:
    """The method that judges so many versions of one W0; one too small for a Krylov space is always factorised."""
    streamed = isinstance(factors.W0, RowChunked)  # its factorisation does not fit the memory budget
    versions = 1 if streamed else max(versions, settings.expected)
    cheapest = choose(factors, versions, min(settings.k, *factors.W0.shape))
    return cheapest if settings.method == AUTO or cheapest == "exact" else settings.method


def triplets(W: LinearOperator, vectors: Float[Tensor, "d k"], side: OneSide, S: Tensor | None = None) -> SVD:
    """Triplets from the singular vectors of one side:  v = W^H u / ||W^H u||,  or the same of W^H.  One product."""
    image = W.rmatmat(vectors) if side == "left" else W.matmat(vectors)
    sizes = torch.linalg.vector_norm(image, dim=0)
    others = image / sizes.clamp_min(torch.finfo(image.dtype).tiny)
    values = sizes if S is None else S.to(sizes.device)
    return SVD(vectors, values, others.mH) if side == "left" else SVD(others, values, vectors.mH)


def vectors_of(svd: SVD, side: OneSide) -> Float[Tensor, "d n"]:
    """The singular vectors of one side as columns."""
    return svd.U if side == "left" else svd.Vh.mH


def frobenius(W: LinearOperator) -> float:
    """||W||_F: norms of the rows, their squares summed in float64; a float64 copy of W0 would take 50 times longer."""
    squares = (torch.linalg.vector_norm(rows, dim=1).double().pow(2).sum() for rows in W.row_blocks())
    return sum(float(square) for square in squares) ** 0.5
