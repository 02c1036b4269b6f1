"""What a method says of the leading vectors of one tuned matrix, before it becomes a record."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from spectra.records import Decision, OneSide, VectorVerdict

LEADING: Decision = "leading vector"
CERTIFICATE: Decision = "certificate"
FACTORISED: Decision = "full factorisation"


@dataclass(frozen=True, eq=False)
class CosineBounds:
    """Bracket of max_i |<u_i, y_j>| for the leading vectors y_j of one tuned matrix.

    Attributes:
        S: Tuned singular values.
        lower: Proven lower bounds; equal to `upper` (and exact to rounding) after a full factorisation.
        upper: Proven upper bounds.
        ill_conditioned: True where the vector's neighbour in the spectrum is indistinguishable.
        decided: How each verdict was reached.
        method: "exact", "certified" or "cached-basis".
    """

    S: Float[Tensor, " k"]
    lower: Float[Tensor, " k"]
    upper: Float[Tensor, " k"]
    ill_conditioned: Bool[Tensor, " k"]
    decided: tuple[Decision, ...]
    method: str

    def verdicts(self, epsilon: float, side: OneSide) -> tuple[VectorVerdict, ...]:
        """One record per vector."""
        rows = zip(
            self.S.tolist(),
            self.lower.tolist(),
            self.upper.tolist(),
            self.ill_conditioned.tolist(),
            self.decided,
            strict=True,
        )
        return tuple(
            VectorVerdict(
                index=index,
                singular_value=sigma,
                max_cosine=low,
                is_intruder=high < epsilon,
                lower=low,
                upper=high,
                decided_by=decision,
                ill_conditioned=ill,
                side=side,
            )
            for index, (sigma, low, high, ill, decision) in enumerate(rows)
        )


def exact_bounds(
    S: Float[Tensor, " k"], cosines: Float[Tensor, " k"], ill_conditioned: Bool[Tensor, " k"], method: str
) -> CosineBounds:
    """Bounds that coincide, from cosines to every base vector."""
    value = cosines.double().clamp(max=1.0)
    return CosineBounds(S, value, value, ill_conditioned, (FACTORISED,) * S.shape[0], method)
