"""What a method says of the leading vectors of one tuned matrix, before it becomes a record."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spectra.linalg.triplets import CLUSTER_ROUNDINGS
from spectra.records.verdicts import Decision, OneSide, VectorVerdict

LEADING: Decision = "leading vector"
CERTIFICATE: Decision = "certificate"
FACTORISED: Decision = "full factorisation"


@dataclass(frozen=True, eq=False)
class CosineBounds:
    """Bracket of max_i |<u_i, y_j>| for the leading vectors y_j of one tuned matrix.

    Attributes:
        S: Tuned singular values.
        lower: Proven lower bounds; equal to `upper` (and exact to rounding) after two full factorisations.
        upper: Proven upper bounds.
        ill_conditioned: True where the vector's neighbour in the spectrum is indistinguishable.
        decided: How each verdict was reached.
        method: "exact", "certified" or "cached-basis".
        U: Gives the vectors y_j as columns; a call, because most scans never ask.
        cosines: <u_i, y_j> with all u_i, after a full factorisation of W0; else None.
        sin_angles: Bound on the angle of each y_j to the true vector; None after a full factorisation of W_tuned.
    """

    S: Float[Tensor, " k"]
    lower: Float[Tensor, " k"]
    upper: Float[Tensor, " k"]
    ill_conditioned: Bool[Tensor, " k"]
    decided: tuple[Decision, ...]
    method: str
    U: Callable[[], Float[Tensor, "d_out k"]]
    cosines: Float[Tensor, "n k"] | None = None
    sin_angles: Float[Tensor, " k"] | None = None

    @property
    def max_cosines(self) -> Float[Tensor, " k"]:
        """The largest |<u_i, y_j>| found: of all i where they are known, else the lower bound."""
        return self.lower if self.cosines is None else self.cosines.abs().max(dim=0).values.double().clamp(max=1.0)

    def verdicts(self, epsilon: float, side: OneSide) -> tuple[VectorVerdict, ...]:
        """One record per vector."""
        rows = zip(
            self.S.tolist(),
            self.max_cosines.tolist(),
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
                max_cosine=found,
                is_intruder=high < epsilon,
                lower=low,
                upper=high,
                decided_by=decision,
                ill_conditioned=ill,
                side=side,
            )
            for index, (sigma, found, low, high, ill, decision) in enumerate(rows)
        )


def exact_bounds(
    S0: Float[Tensor, " n"],
    cosines: Float[Tensor, "n k"],
    S: Float[Tensor, " k"],
    ill_conditioned: Bool[Tensor, " k"],
    epsilons: Float[Tensor, " e"],
    method: str,
    U: Callable[[], Float[Tensor, "d_out k"]],
    sin_angles: Float[Tensor, " k"] | None = None,
) -> CosineBounds:
    """Bounds from the cosines to every base vector: they coincide, but for the error of the y_j.

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
        sin_angles: How far the y_j may be off; |<u, y>| moves by at most that much.
    """
    squares = cosines.double() ** 2
    value = squares.max(dim=0).values.sqrt().clamp(max=1.0)
    least, most = _range_over_bases(S0, squares)
    # A tenth of a per mille is the rounding of the cosines themselves.
    hangs = ((least[:, None] < epsilons - 1e-4) & (epsilons + 1e-4 <= most[:, None])).any(dim=1)
    error = torch.zeros_like(value) if sin_angles is None else sin_angles
    lower, upper = (value - error).clamp_min(0), (value + error).clamp(max=1.0)
    decided = (FACTORISED,) * S.shape[0]
    return CosineBounds(S, lower, upper, ill_conditioned | hangs, decided, method, U, cosines, sin_angles)


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
