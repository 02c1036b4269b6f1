"""Leading singular triplets by block Lanczos, with proven residuals, for one matrix or many on the same base."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spectra.linalg.angles import angle_bounds, image_angle_bounds, nearest_distance, residual_rounding
from spectra.linalg.krylov import BlockLanczos, RitzPairs, gram_together
from spectra.linalg.operators import LinearOperator, LowRankUpdate
from spectra.linalg.svd import low_rank_svd

# A vector counts as found when its direction is known to this (sine of the angle) ...
ANGLE_TOLERANCE = 1e-3
# ... and is handed out up to this many times as far, where the basis limit was reached first.
SLACKENED = 10
# Beyond this basis size the re-orthogonalisation costs more than the factorisation it avoids.
LARGEST_BASIS = 640
# Of known leading vectors of W0 the start takes this many times k: those beyond k keep the first k apart from the rest.
WARM_SHARE = 2
# A random start never settles earlier, so that the projected problem is not even solved.
COLD_PASSES = 3
# Two singular values closer than this many roundings of the largest one cannot be told apart by any method.
CLUSTER_ROUNDINGS = 64.0


@dataclass(frozen=True, eq=False)
class LeadingVectors:
    """Leading singular values and left singular vectors, with what is proven about them.

    Attributes:
        U: Left singular vectors as columns, by decreasing singular value.
        S: Singular values.
        sin_angles: Bound on the sine of the angle between each column of U and the true singular vector
            (residual over gap, Davis & Kahan), assuming that no leading value was missed by the random start.
        ill_conditioned: True where the neighbouring singular value is indistinguishable in this arithmetic.
        converged: True when every bound is below `SLACKENED * ANGLE_TOLERANCE` or the vector is ill-conditioned.
        passes: Products with the Gram operator that were spent.
        following: Approximate eigenvectors of the smaller Gram operator that come after the first k, without any
            bound: a start for a search near them.
    """

    U: Float[Tensor, "d_out k"]
    S: Float[Tensor, " k"]
    sin_angles: Float[Tensor, " k"]
    ill_conditioned: Bool[Tensor, " k"]
    converged: bool
    passes: int
    following: Float[Tensor, "d f"]


def leading_vectors(
    W0: LinearOperator,
    updates: Sequence[LowRankUpdate | None],
    k: int,
    *,
    warm: Float[Tensor, "d w"] | None = None,
    tolerance: float = ANGLE_TOLERANCE,
    seed: int = 0,
) -> list[LeadingVectors]:
    """The k leading left singular vectors of W0 + update_i for every i, sharing each pass over W0.

    Args:
        W0: The base.
        updates: One entry per matrix wanted; None stands for W0 itself.
        k: Number of vectors per matrix.
        warm: Approximate leading eigenvectors of the smaller Gram operator (left singular vectors of a wide W0,
            right ones of a tall); they replace most of the random start.
        tolerance: Sine of the angle at which a vector counts as found.
        seed: Of the random columns, which make a missed singular value improbable.

    Returns:
        One `LeadingVectors` per update. `converged` is False where the basis limit was reached first; the caller
        then falls back on a full factorisation.

    Source: block Lanczos on the smaller Gram operator (`krylov`), residual-gap angle bounds from Davis & Kahan 1970.
        Difference: an update enters the start block through the leading singular vectors of delta_W, because the
        new leading directions lie near its range.
    Cost: about 5-9 passes over W0 with k + 6 columns per matrix on spectra with a heavy head; 2-4 when warm.
    """
    left = W0.shape[0] <= W0.shape[1]
    runs = [BlockLanczos(_start(W0, update, k, warm, seed)) for update in updates]
    pairs: list[RitzPairs | None] = [None] * len(runs)
    open_runs = list(range(len(runs)))
    passes = 0
    while open_runs:
        products = gram_together(W0, [updates[i] for i in open_runs], [runs[i].pending for i in open_runs])
        passes += 1
        still_open = []
        for i, product in zip(open_runs, products, strict=True):
            runs[i].advance(product)
            full = runs[i].exhausted or runs[i].basis.shape[1] >= min(LARGEST_BASIS, *W0.shape)
            if warm is None and passes < COLD_PASSES and not full:
                still_open.append(i)
                continue
            pair = runs[i].ritz()
            pairs[i] = pair
            if not full and not _settled(pair, k, W0.dtype, tolerance):
                still_open.append(i)
        open_runs = still_open
    return [
        _finish(W0, update, run, pair, k, left, passes)
        for update, run, pair in zip(updates, runs, pairs, strict=True)
        if pair is not None
    ]


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
    vectors = torch.linalg.eigh(half.mH @ half).eigenvectors
    return basis @ vectors.flip(1)[:, :count]


def update_directions(W: LinearOperator, update: LowRankUpdate, k: int) -> Float[Tensor, "d _"]:
    """The k leading singular vectors of an update, in the smaller space of the matrix W it belongs to."""
    delta = low_rank_svd(update.B, update.A, update.scaling).leading(k)
    return delta.U if W.shape[0] <= W.shape[1] else delta.Vh.mH


def clustered(S: Float[Tensor, " n"], k: int, dtype: torch.dtype) -> Bool[Tensor, " k"]:
    """True where one of the first k singular values has a neighbour within `CLUSTER_ROUNDINGS` roundings of S[0]."""
    return (nearest_distance(S) <= CLUSTER_ROUNDINGS * torch.finfo(dtype).eps * S[:1])[:k]


def _start(
    W0: LinearOperator,
    update: LowRankUpdate | None,
    k: int,
    warm: Tensor | None,
    seed: int,
) -> Tensor:
    """Start block: directions of the update, warm vectors, and random columns, in the smaller space."""
    d = min(W0.shape)
    columns = []
    if update is not None:
        columns.append(update_directions(W0, update, k))
    if warm is not None:
        columns.append(warm[:, : WARM_SHARE * k])
    known = sum(column.shape[1] for column in columns)
    generator = torch.Generator().manual_seed(seed)
    fresh = max(4, k + 6 - known)
    columns.append(torch.randn(d, fresh, generator=generator).to(device=W0.device, dtype=W0.dtype))
    scaled = [column / torch.linalg.vector_norm(column, dim=0).clamp_min(1e-30) for column in columns]
    return torch.cat(scaled, dim=1)[:, :d]


def _settled(pairs: RitzPairs, k: int, dtype: torch.dtype, tolerance: float) -> bool:
    """True when the first k vectors are within the tolerance, or as near as this arithmetic will bring them."""
    if pairs.values.shape[0] <= k:
        return False
    S = pairs.values.clamp_min(0).sqrt()
    exhausted = pairs.residuals[:k] <= residual_rounding(pairs, dtype)[:k]
    return bool(((angle_bounds(pairs, k, dtype) <= tolerance) | exhausted | clustered(S, k, dtype)).all())


def _finish(
    W0: LinearOperator,
    update: LowRankUpdate | None,
    run: BlockLanczos,
    pairs: RitzPairs,
    k: int,
    left: bool,
    passes: int,
) -> LeadingVectors:
    """Ritz vectors -> left singular vectors, in the order of their singular values."""
    S = pairs.values.clamp_min(0).sqrt()
    angles = angle_bounds(pairs, k, W0.dtype)
    U = run.ritz_vectors(pairs, k)
    if not left:
        angles = image_angle_bounds(pairs, angles, W0.dtype)
        image = W0.matmat(U)
        if update is not None:
            image = image + update.matmat(U)
        norms = torch.linalg.vector_norm(image, dim=0)
        U = image / norms.clamp_min(torch.finfo(image.dtype).tiny)
    ill = clustered(S, k, W0.dtype)
    converged = run.exhausted or bool(((angles <= SLACKENED * ANGLE_TOLERANCE) | ill).all())
    complete = converged and U.shape[1] == min(k, *W0.shape)
    following = run.ritz_vectors(pairs, WARM_SHARE * k)[:, k:]
    return LeadingVectors(U, S[:k].to(W0.dtype), angles, ill, complete, passes, following)
