"""Leading singular triplets by block Lanczos, with proven residuals, for one matrix or many on the same base."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spectra.linalg.angles import NULL_ROUNDINGS, angle_bounds, image_angle_bounds, nearest_distance, residual_rounding
from spectra.linalg.completeness import Count, complete_pairs
from spectra.linalg.krylov import BlockLanczos, RitzPairs, gram_together, random_columns
from spectra.linalg.operators import LinearOperator, LowRankUpdate, RowChunked
from spectra.linalg.placement import for_eigenpairs
from spectra.linalg.svd import low_rank_svd

# A vector counts as found when its direction is known to this (sine of the angle) ...
ANGLE_TOLERANCE = 1e-3
# ... and is given out up to this many times as far, where the basis limit was reached first.
SLACKENED = 10
# Beyond this basis size the re-orthogonalisation costs more than the factorisation it avoids.
LARGEST_BASIS = 640
# Of known leading vectors of W0 the start takes this many times k: those beyond k keep the first k apart from the rest.
WARM_SHARE = 2
# Random columns of every start block, whatever else it holds: they tell whether a leading vector is missing.
RANDOM_COLUMNS = 12
# Where the count of the eigenvalues is known otherwise, a few help to find all of them.
FEW_RANDOM_COLUMNS = 4
# Columns of a start block beyond the k that are sought: a pass over a large matrix with 20 columns takes little longer
# than one with 12.
BESIDE = 10
# They never tell earlier, so that the projected problem is not even solved; beside known vectors of W0 they may.
LEAST_PASSES = 3
LEAST_PASSES_BESIDE_KNOWN = 2
# From so many passes on a search ends when all that its residuals hold is rounding: the next ones would change nothing.
FEWEST_HOPELESS = 12
# Ritz values beyond the k-th whose place is asked for, too: the next one bounds the angle of the k-th vector.
COUNTED_BESIDE = 2
# Two singular values closer than this many roundings of the largest one cannot be told apart by any method.
CLUSTER_ROUNDINGS = 64.0


# From Ritz pairs and k to a count of the eigenvalues that says whether one of the k leading ones is missing.
Counter = Callable[[RitzPairs, int], Count | None]


@dataclass(frozen=True, eq=False)
class LeadingVectors:
    """Leading singular values and left singular vectors, with what is proven about them (on the CPU: `placement`).

    Attributes:
        U: Left singular vectors as columns, by decreasing singular value.
        S: Singular values.
        sin_angles: Bound on the sine of the angle between each column of U and the true singular vector
            (residual over gap, Davis & Kahan).
        ill_conditioned: True where the neighbouring singular value is indistinguishable in this arithmetic.
        converged: True when every bound is below `SLACKENED * ANGLE_TOLERANCE` or the vector is ill-conditioned, and
            no leading vector is missing, but for a probability of `completeness.FAILURE`.
        passes: Products with the Gram operator that were spent.
        following: Approximate eigenvectors of the smaller Gram operator that come after the first k, without any
            bound: a start for a search near them.
        count: Why no leading vector is missing: a statement on the eigenvalues of the smaller Gram operator.
        back: A matrix W and W^H @ U, where that came with the last pass over W: W0 itself, or a tuned matrix.
    """

    U: Float[Tensor, "d_out k"]
    S: Float[Tensor, " k"]
    sin_angles: Float[Tensor, " k"]
    ill_conditioned: Bool[Tensor, " k"]
    converged: bool
    passes: int
    following: Float[Tensor, "d f"]
    count: Count | None
    back: tuple[LinearOperator, Float[Tensor, "d_in k"]] | None = None

    def back_from(self, W: LinearOperator) -> Float[Tensor, "d_in k"] | None:
        """W^H @ U of this very matrix, if it is known."""
        return self.back[1] if self.back is not None and self.back[0] is W else None


def leading_vectors(
    W0: LinearOperator,
    updates: Sequence[LowRankUpdate | None],
    k: int,
    *,
    warm: Float[Tensor, "d w"] | None = None,
    tolerance: float = ANGLE_TOLERANCE,
    counter: Counter | None = None,
    seed: int = 0,
) -> list[LeadingVectors]:
    """The k leading left singular vectors of W0 + update_i for every i, sharing each pass over W0.

    Args:
        W0: The base.
        updates: One entry per matrix wanted; None stands for W0 itself.
        k: Number of vectors per matrix.
        warm: Approximate leading eigenvectors of the smaller Gram operator (left singular vectors of a wide W0,
            right ones of a tall).
        tolerance: Sine of the angle at which a vector counts as found.
        counter: Says how many eigenvalues there are, of a single matrix; where it does not, the random columns do.
        seed: Of the random columns.

    Returns:
        One `LeadingVectors` per update. `converged` is False where the basis limit was reached first; the caller
        then falls back on a full factorisation.

    Source: block Lanczos on the smaller Gram operator (`krylov`), residual-gap angle bounds from Davis & Kahan 1970,
        random columns that tell whether a leading vector is missing (`completeness`).
        Difference: an update enters the start block through the leading singular vectors of delta_W, because the
        new leading directions lie near its range.
    Cost: about 5-9 passes over W0 with k + 6 columns per matrix on spectra with a heavy head; 2-4 when warm.
    """
    searches = [Search(W0, update, k, warm, tolerance, counter, seed) for update in updates]
    search_together(W0, searches)
    return [each.result() for each in searches]


def search_together(W0: LinearOperator, searches: "Sequence[Search]") -> None:
    """Feed searches on one base until all are over, sharing each pass over W0."""
    waiting = list(searches)
    while waiting:
        products = gram_together(W0, [each.multiplied for each in waiting], [each.run.pending for each in waiting])
        for each, product in zip(waiting, products, strict=True):
            each.advance(product)
        waiting = [each for each in waiting if not each.is_over]


def leading_within(W: LinearOperator, basis: Float[Tensor, "d w"], count: int) -> Float[Tensor, "d count"]:
    """The leading eigenvectors of the smaller Gram operator of W within a space, by Rayleigh-Ritz: a start block.

    Args:
        W: The matrix.
        basis: Orthonormal columns in the smaller space of W.
        count: Columns wanted.

    Source: Parlett, The Symmetric Eigenvalue Problem, section 11.4.
        Difference: half a pass suffices, T = (W^H Q)^H (W^H Q); the residuals are left to the run that starts here.
    Cost: half a pass over W with all columns of the basis.
    """
    half = W.rmatmat(basis) if W.shape[0] <= W.shape[1] else W.matmat(basis)
    vectors = torch.linalg.eigh(for_eigenpairs(half.mH @ half)).eigenvectors
    return basis @ vectors.flip(1)[:, :count].to(basis)


def update_directions(W: LinearOperator, update: LowRankUpdate, k: int) -> Float[Tensor, "d _"]:
    """The k leading singular vectors of an update, in the smaller space of the matrix W it belongs to."""
    delta = low_rank_svd(update.B, update.A, update.scaling).leading(k)
    return delta.U if W.shape[0] <= W.shape[1] else delta.Vh.mH


def clustered(S: Float[Tensor, " n"], k: int, dtype: torch.dtype) -> Bool[Tensor, " k"]:
    """True where one of the first k singular values has a neighbour within `CLUSTER_ROUNDINGS` roundings of S[0]."""
    return (nearest_distance(S) <= CLUSTER_ROUNDINGS * torch.finfo(dtype).eps * S[:1])[:k]


class Search:
    """The search for the leading vectors of one matrix: a Krylov run, and when it may stop."""

    def __init__(
        self,
        W0: LinearOperator,
        update: LowRankUpdate | None,
        k: int,
        warm: Float[Tensor, "d w"] | None,
        tolerance: float,
        counter: Counter | None,
        seed: int,
    ) -> None:
        """Make the start block: directions of the update, warm vectors, and random columns, in the smaller space."""
        self.W0, self.update, self.k, self.tolerance, self.counter = W0, update, k, tolerance, counter
        self.dimension, self.size, self.least_passes = min(W0.shape), 0.0, LEAST_PASSES
        self.run = self._begin(warm, seed)
        self.count: Count | None = None
        self.passes = 0
        self.is_over = False
        self.pairs: RitzPairs | None = None

    def _begin(self, warm: Float[Tensor, "d w"] | None, seed: int) -> BlockLanczos:
        W0, k = self.W0, self.k
        columns = []
        if self.update is not None:
            delta = low_rank_svd(self.update.B, self.update.A, self.update.scaling).leading(k)
            columns.append(delta.U if W0.shape[0] <= W0.shape[1] else delta.Vh.mH)
            self.size = float(delta.S[:1].sum())
        if warm is not None:
            columns.append(warm[:, : WARM_SHARE * k])
        beside = sum(column.shape[1] for column in columns)
        count = max(RANDOM_COLUMNS if self.counter is None else FEW_RANDOM_COLUMNS, k + BESIDE - beside)
        like = torch.empty(self.dimension, 0, dtype=W0.dtype, device=W0.device)
        scaled = [column / torch.linalg.vector_norm(column, dim=0).clamp_min(1e-30) for column in columns]
        # The random columns come first: they stay whole where there are more columns than dimensions.
        start = torch.cat([random_columns(count, like, seed), *scaled], dim=1)[:, : self.dimension]
        return BlockLanczos(start, random=min(count, self.dimension))

    @property
    def multiplied(self) -> LowRankUpdate | None:
        """The update that a product is to be taken with, beside W0."""
        return self.update

    def ritz(self) -> RitzPairs:
        """Ritz pairs of the Gram operator whose leading eigenvectors are sought.

        An update may take the head of W0 away: rounding is relative to the two parts that a product is made of.
        """
        pairs = self.run.ritz()
        return replace(pairs, largest=max(pairs.largest, pairs.largest**0.5 * self.size))

    def advance(self, product: Float[Tensor, "d block"]) -> None:
        """Take a product, and look whether the k leading vectors are found."""
        self.run.advance(product)
        self.passes += 1
        limit = self.run.exhausted or self.run.basis.shape[1] >= min(LARGEST_BASIS, self.dimension)
        if self.counter is None and self.passes < self.least_passes and not limit:
            return
        self.pairs = self.ritz()
        settled = limit or _settled(self.pairs, self.k, self.W0.dtype, self.tolerance)
        if settled and self._is_complete(self.pairs):
            self.is_over = self._is_found(self.pairs)
            if not self.is_over:
                self.count = None  # a later one will say where the next eigenvalues lie, too
        rounding = residual_rounding(self.pairs, self.W0.dtype)
        stalled = bool((self.pairs.residuals <= rounding)[: self.k + COUNTED_BESIDE].all())
        self.is_over = self.is_over or limit or (stalled and self.passes >= FEWEST_HOPELESS)

    def _is_complete(self, pairs: RitzPairs) -> bool:
        """True when no leading eigenvalue is missing."""
        k = min(self.k, self.dimension)
        if self.run.exhausted:  # what the random columns did not reach is zero
            k = min(k, int((pairs.values > NULL_ROUNDINGS * torch.finfo(self.W0.dtype).eps * pairs.largest).sum()))
        if k == 0 or self.run.basis.shape[1] == self.dimension:  # all eigenvalues are here
            return True
        if self.count is None or not self.count.is_complete(pairs.values, k):
            counted = None if self.counter is None else self.counter(pairs, k)
            self.count = counted or self._counted(pairs, k)
        return self.count is not None and self.count.is_complete(pairs.values, k)

    def _is_found(self, pairs: RitzPairs) -> bool:
        """True when the k leading vectors are as near as `LeadingVectors.converged` asks, by what is proven of them."""
        found = self._angles(pairs) <= SLACKENED * ANGLE_TOLERANCE
        return bool((found | clustered(pairs.values.clamp_min(0).sqrt(), self.k, self.W0.dtype)).all())

    def _angles(self, pairs: RitzPairs) -> Float[Tensor, " k"]:
        """Bounds on the angles of the k leading left vectors; a count says where the next eigenvalue may lie."""
        counted = self.count is not None and self.count.is_complete(pairs.values, min(self.k, self.dimension))
        limit = self.count.limit if self.count is not None and counted else None
        angles = angle_bounds(pairs, self.k, self.W0.dtype, limit)
        return image_angle_bounds(pairs, angles, self.W0.dtype) if self.W0.shape[0] > self.W0.shape[1] else angles

    def _counted(self, pairs: RitzPairs, k: int) -> Count | None:
        """What the random columns say."""
        return complete_pairs(pairs, self.W0.dtype, at_least=k, at_most=k + COUNTED_BESIDE)

    def result(self) -> LeadingVectors:
        """Ritz vectors -> left singular vectors, in the order of their singular values."""
        pairs, k, dtype, back = self.pairs, self.k, self.W0.dtype, None
        if pairs is None:
            raise ValueError("a search has a result when it is over")
        complete = self._is_complete(pairs)
        S = pairs.values.clamp_min(0).sqrt()
        angles = self._angles(pairs)
        U = self.run.ritz_vectors(pairs, k)
        if self.W0.shape[0] > self.W0.shape[1]:
            beside = None if self.update is None else self.update.matmat(U)
            if isinstance(self.W0, RowChunked):
                image, back = self.W0.both_ways(U, beside)
            else:
                image, back = self.W0.matmat(U), None
                image = image if beside is None else image + beside
            lengths = torch.linalg.vector_norm(image, dim=0).clamp_min(torch.finfo(image.dtype).tiny)
            U, back = image / lengths, None if back is None else back / lengths
        ill = clustered(S, k, dtype)
        found = bool(((angles <= SLACKENED * ANGLE_TOLERANCE) | ill).all())
        return LeadingVectors(
            U,
            S[:k].to(dtype),
            angles,
            ill,
            complete and found and U.shape[1] == min(k, self.dimension),
            self.passes,
            self.run.ritz_vectors(pairs, WARM_SHARE * k)[:, k:],
            self.count,
            None if back is None else (self.W0, back),
        )


def _settled(pairs: RitzPairs, k: int, dtype: torch.dtype, tolerance: float) -> bool:
    """True when the first k vectors are within the tolerance, or as near as this arithmetic will bring them."""
    if pairs.values.shape[0] <= k:
        return False
    S = pairs.values.clamp_min(0).sqrt()
    exhausted = pairs.residuals[:k] <= residual_rounding(pairs, dtype)[:k]
    return bool(((angle_bounds(pairs, k, dtype) <= tolerance) | exhausted | clustered(S, k, dtype)).all())
