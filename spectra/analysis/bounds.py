"""What a method says of the leading vectors of one tuned matrix, before it becomes a record."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spectra.linalg.triplets import CLUSTER_ROUNDINGS
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
        U: Gives the vectors y_j as columns; a call, because most scans never ask.
        cosines: <u_i, y_j> with all u_i, after a full factorisation; else None.
    """

    S: Float[Tensor, " k"]
    lower: Float[Tensor, " k"]
    upper: Float[Tensor, " k"]
    ill_conditioned: Bool[Tensor, " k"]
    decided: tuple[Decision, ...]
    method: str
    U: Callable[[], Float[Tensor, "d_out k"]]
    cosines: Float[Tensor, "n k"] | None = None

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
    S0: Float[Tensor, " n"],
    cosines: Float[Tensor, "n k"],
    S: Float[Tensor, " k"],
    ill_conditioned: Bool[Tensor, " k"],
    epsilons: Float[Tensor, " e"],
    method: str,
    U: Callable[[], Float[Tensor, "d_out k"]],
) -> CosineBounds:
    """Bounds that coincide, from the cosines to every base vector.

    Where W0 repeats a singular value to rounding, its vectors are any basis of a subspace, and so is the largest
    cosine to them: a vector whose verdict hangs on that choice is ill-conditioned.

    Args:
        S0: All singular values of W0.
        cosines: <u_i, y_j>.
        S: Singular values of the y_j.
        ill_conditioned: What is already known to be.
        epsilons: The thresholds asked for.
        method: Name to record.
        U: Gives the y_j.
    """
    squares = cosines.double() ** 2
    value = squares.max(dim=0).values.sqrt().clamp(max=1.0)
    least, most = _range_over_bases(S0, squares)
    # A tenth of a per mille is the rounding of the cosines themselves.
    hangs = ((least[:, None] < epsilons - 1e-4) & (epsilons + 1e-4 <= most[:, None])).any(dim=1)
    return CosineBounds(S, value, value, ill_conditioned | hangs, (FACTORISED,) * S.shape[0], method, U, cosines)


def _range_over_bases(
    S0: Float[Tensor, " n"], squares: Float[Tensor, "n k"]
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Smallest and largest max_i |<u_i, y>| over all bases of the eigenspaces of equal singular values.

    A group of g equal values that holds the mass m of y can show a largest cosine between sqrt(m / g) and sqrt(m).
    """
    apart = (S0[:-1] - S0[1:]) > CLUSTER_ROUNDINGS * torch.finfo(S0.dtype).eps * S0[:1]
    group = torch.cat([apart.new_zeros(1, dtype=torch.long), apart.long().cumsum(dim=0)])
    count = int(group[-1]) + 1
    mass = squares.new_zeros(count, squares.shape[1]).index_add(0, group, squares)
    size = torch.bincount(group, minlength=count).to(squares)[:, None]
    return (mass / size).max(dim=0).values.sqrt(), mass.max(dim=0).values.sqrt()
