"""Cosines to the leading base vectors that are known, and what they say of controls without any proof."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.engine.bounds import LEADING, CosineBounds
from spectra.engine.methods import AUTO, choose
from spectra.engine.tuned import Tuned, leading_vectors_of
from spectra.linalg.triplets import LeadingVectors
from spectra.records.intruder_scan import OneSide
from spectra.scanning.facts import BaseFacts, PairFacts, other_side


def known_cosines(base: BaseFacts, Y: Float[Tensor, "d k"], side: OneSide) -> tuple[Float[Tensor, "l k"], float]:
    """<u_i, y_j> for the leading u_i that are known (there may be none), and a bound on their error."""
    known, W0 = base.factors.leading, base.W0
    if known is None:
        return Y.new_zeros(0, Y.shape[1], dtype=torch.float64), 0.0
    smaller = "left" if W0.shape[0] <= W0.shape[1] else "right"
    error = float(known.sin_angles.max())
    if side == smaller:
        return (known.vectors.mH @ Y).double(), error
    # <u_i, y> = <v_i, W0^H y> / sigma_i: an error in v_i grows by at most sigma_1 / sigma_i.
    sizes = known.values.clamp_min(1e-300).sqrt()
    image = W0.rmatmat(Y) if side == "left" else W0.matmat(Y)
    return (known.vectors.mH @ image).double() / sizes[:, None], error * float(sizes[0] / sizes[-1])


def can_be_glimpsed(base: BaseFacts, versions: int) -> bool:
    """True where the matrix is so large that proofs cost, and enough of its leading vectors are known to do without."""
    known = base.factors.leading
    automatic = base.settings.scan.method in (AUTO, "certified")
    return (
        automatic
        and choose(base.factors, versions, base.k) == "certified"
        and known is not None
        and (known.values.shape[0] >= base.k)
    )


def glimpsed(base: BaseFacts, tuned: Sequence[Tuned], noise: Sequence[float | None]) -> list[PairFacts | None]:
    """The facts of controls, their largest cosines taken over the known leading base vectors alone.

    A leading vector of a control is made of leading base vectors and of new directions, so that the largest cosine
    lies among the known ones; that it does is not proven here. None where the leading vectors did not settle.

    Args:
        base: What is known of W0.
        tuned: The controls.
        noise: Their sizes, where they are dense.

    Cost: one Krylov run for both sides, no certificate and no factorisation.
    """
    warm = None if base.factors.leading is None else base.factors.leading.vectors
    found = leading_vectors_of(base.W0, tuned, base.k, warm=warm)
    return [
        _facts(base, each, vectors, size) if vectors.converged else None
        for each, vectors, size in zip(tuned, found, noise, strict=True)
    ]


def _facts(base: BaseFacts, tuned: Tuned, vectors: LeadingVectors, noise: float | None) -> PairFacts:
    """The leading vectors of one control as bounds of the sides asked for."""
    svd = other_side(tuned.operator(base.W0), vectors.U, vectors.S)
    asked = base.settings.scan.side
    bounds: dict[OneSide, CosineBounds] = {}
    if asked != "right":
        bounds["left"] = _bounds(base, svd.U, vectors, "left")
    if asked != "left":
        bounds["right"] = _bounds(base, svd.Vh.mH, vectors, "right")
    return PairFacts(base, tuned, bounds, noise)


def _bounds(base: BaseFacts, Y: Float[Tensor, "d k"], vectors: LeadingVectors, side: OneSide) -> CosineBounds:
    cosines, _ = known_cosines(base, Y, side)
    largest = cosines.abs().max(dim=0).values.clamp(max=1.0)
    decided = (LEADING,) * largest.shape[0]
    return CosineBounds(vectors.S, largest, largest, vectors.ill_conditioned, decided, "leading", lambda: Y)
