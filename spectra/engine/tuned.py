"""The tuned side of one matrix, seen from the left: an update of W0, or a matrix of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from spectra.linalg.operators import Adjoint, Dense, LinearOperator, LowRankUpdate, Updated
from spectra.linalg.triplets import ANGLE_TOLERANCE, LeadingVectors, leading_vectors


@dataclass(frozen=True, eq=False)
class Tuned:
    """A tuned matrix as an update of W0 (adapters) or as its own operator (full fine-tuning); exactly one is set."""

    update: LowRankUpdate | None = None
    W: LinearOperator | None = None

    def operator(self, W0: LinearOperator) -> LinearOperator:
        """W_tuned as an operator."""
        if self.W is not None:
            return self.W
        if self.update is None:
            raise ValueError("a Tuned needs an update or a matrix")
        return Updated(W0, self.update)

    def transposed(self) -> "Tuned":
        """The same matrix seen from the right."""
        if self.W is not None:
            return Tuned(W=adjoint(self.W))
        if self.update is None:
            raise ValueError("a Tuned needs an update or a matrix")
        return Tuned(update=LowRankUpdate(self.update.A.mH, self.update.B.mH, self.update.scaling))


def adjoint(W: LinearOperator) -> LinearOperator:
    """W^H; twice gives W back. A matrix in memory is turned as a view."""
    if isinstance(W, Adjoint):
        return W.W
    if isinstance(W, Dense):
        return Dense(W.W.mH)
    return Adjoint(W)


def leading_vectors_of(
    W0: LinearOperator,
    tuned: Sequence[Tuned],
    k: int,
    *,
    warm: Float[Tensor, "d w"] | None,
    tolerance: float = ANGLE_TOLERANCE,
) -> list[LeadingVectors]:
    """`linalg.triplets.leading_vectors` of all: updates share passes over W0, a dense W_tuned makes its own."""
    updates = [each.update for each in tuned if each.update is not None]
    shared = iter(leading_vectors(W0, updates, k, warm=warm, tolerance=tolerance) if updates else [])
    return [
        next(shared)
        if each.update is not None
        else leading_vectors(each.operator(W0), [None], k, warm=warm, tolerance=tolerance)[0]
        for each in tuned
    ]
