"""What is known of a matrix and its tuned version: every factorisation done once, on first use, and shared."""

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.engine.bounds import CosineBounds
from spectra.engine.factors import BaseFactors, TransposedFactors
from spectra.engine.norms import frobenius
from spectra.engine.tuned import Tuned, adjoint
from spectra.linalg.density import Spectrum, estimated_spectrum, exact_spectrum
from spectra.linalg.operators import Dense, Difference, LinearOperator, LowRankUpdate, RowChunked
from spectra.linalg.svd import SVD, low_rank_svd, thin_svd
from spectra.linalg.triplets import leading_vectors
from spectra.metrics.retention import diagonal_retention
from spectra.records.intruder_scan import OneSide
from spectra.scanning.matrix import cosine_bounds
from spectra.scanning.survey_settings import SurveySettings

# Up to this size a full factorisation costs less than the scan around it, and every number is exact.
EXACT_UP_TO = 1024


@dataclass(eq=False)
class BaseFacts:
    """One W0: its norm, its leading triplets, its spectrum.

    Attributes:
        factors: W0 and what the cache knows of it.
        settings: The question.
    """

    factors: BaseFactors
    settings: SurveySettings

    @property
    def W0(self) -> LinearOperator:
        """The matrix."""
        return self.factors.W0

    @property
    def k(self) -> int:
        """Leading vectors looked at: at most the smaller dimension."""
        return min(self.settings.scan.k, *self.W0.shape)

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
            return self._from_smaller_space(known.vectors[:, : self.k])
        [found] = leading_vectors(self.W0, [None], self.k, warm=None if known is None else known.vectors)
        if not found.converged:
            return self.factors.full().leading(self.k)
        return other_side(self.W0, found.U, found.S)

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
        wide = self.W0.shape[0] <= self.W0.shape[1]
        vectors = self.leading.U if wide else self.leading.Vh.mH
        return estimated_spectrum(self.W0, vectors, self.leading.S, seed=self.settings.seed)

    def _from_smaller_space(self, vectors: Float[Tensor, "d k"]) -> SVD:
        """Triplets from eigenvectors of the smaller Gram operator."""
        if self.W0.shape[0] <= self.W0.shape[1]:
            return other_side(self.W0, vectors)
        turned = other_side(adjoint(self.W0), vectors)
        return SVD(turned.Vh.mH, turned.S, turned.U.mH)


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
        """The k leading triplets of W_tuned."""
        if "left" in self.bounds:
            return other_side(self.W, self.bounds["left"].U(), self.bounds["left"].S)
        turned = other_side(adjoint(self.W), self.bounds["right"].U(), self.bounds["right"].S)
        return SVD(turned.Vh.mH, turned.S, turned.U.mH)

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
        return other_side(self.delta, found.U, found.S) if found.converged else None

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
        wide = self.delta.shape[0] <= self.delta.shape[1]
        vectors = self.delta_svd.U if wide else self.delta_svd.Vh.mH
        return estimated_spectrum(self.delta, vectors, self.delta_svd.S, seed=self.base.settings.seed)


def judged(base: BaseFacts, tuned: list[Tuned], noise: list[float | None]) -> list[PairFacts]:
    """The facts of several versions of one W0, their verdicts reached together."""
    settings = base.settings.scan
    bounds: list[dict[OneSide, CosineBounds]] = [{} for _ in tuned]
    if settings.side in ("left", "both"):
        for mine, found in zip(bounds, cosine_bounds(base.factors, tuned, settings), strict=True):
            mine["left"] = found
    if settings.side in ("right", "both"):
        turned = TransposedFactors(adjoint(base.W0), inner=base.factors)
        seen = [each.transposed() for each in tuned]
        for mine, found in zip(bounds, cosine_bounds(turned, seen, settings), strict=True):
            mine["right"] = found
    return [PairFacts(base, *each) for each in zip(tuned, bounds, noise, strict=True)]


def other_side(W: LinearOperator, U: Float[Tensor, "d_out k"], S: Float[Tensor, " k"] | None = None) -> SVD:
    """Triplets from left singular vectors:  v = W^H u / ||W^H u||.  One product."""
    image = W.rmatmat(U)
    sizes = torch.linalg.vector_norm(image, dim=0)
    V = image / sizes.clamp_min(torch.finfo(image.dtype).tiny)
    return SVD(U, sizes if S is None else S, V.mH)
