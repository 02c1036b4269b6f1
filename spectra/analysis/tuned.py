"""The tuned side of one matrix, seen from the left: an update of W0, or a matrix of its own."""

from dataclasses import dataclass

from spectra.linalg.operators import Adjoint, Dense, LinearOperator, LowRankUpdate, Updated


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
