"""What a method says of the leading vectors of one tuned matrix, before it becomes a record."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spectra.linalg.placement import numbers
from spectra.linalg.svd import SVD
from spectra.linalg.triplets import CLUSTER_ROUNDINGS
from spectra.records.verdicts import Decision, OneSide, VectorVerdict

LEADING: Decision = "leading vector"
CERTIFICATE: Decision = "certificate"
FACTORISED: Decision = "full factorisation"
# Backward error of a computed SVD, in roundings of the largest singular value.
SVD_ROUNDINGS = 4.0


@dataclass(frozen=True, eq=False)
class CosineBounds:
    """Bracket of max_i |<u_i, y_j>| for the leading vectors y_j of one tuned matrix; numbers are on the CPU.

    Attributes:
        S: Tuned singular values.
        lower: Proven lower bounds; below `upper` by no more than rounding after two full factorisations.
        upper: Proven upper bounds.
        ill_conditioned: True where the vector's neighbour in the spectrum is indistinguishable.
        decided: How each verdict was reached.
        method: "exact", "certified" or "cached-basis".
        U: Gives the vectors y_j as columns; a call, because most scans never ask.
        cosines: <u_i, y_j> with all u_i, after a full factorisation of W0; else None.
        sin_angles: Bound on the error of the cosines: the angle of each y_j to the true vector, and rounding.
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
                is_intruder=(high if self.cosines is None else found) < epsilon,
                lower=low,
                upper=high,
                decided_by=decision,
                ill_conditioned=ill,
                side=side,
            )
            for index, (sigma, found, low, high, ill, decision) in enumerate(rows)
        )


def exact_bounds(
    base: SVD,
    cosines: Float[Tensor, "n k"],
    S: Float[Tensor, " k"],
    ill_conditioned: Bool[Tensor, " k"],
    epsilons: Float[Tensor, " e"],
    method: str,
    U: Callable[[], Float[Tensor, "d_out k"]],
    error: Float[Tensor, " k"],
) -> CosineBounds:
    """Bounds from the cosines to every base vector: as narrow as the errors of both sides allow.

    Where W0 repeats a singular value to rounding, its vectors are any basis of a subspace, and so is the largest
    cosine to them: a vector whose verdict hangs on that choice is ill-conditioned.

    Args:
        base: The thin SVD of W0, as computed.
        cosines: <u_i, y_j>.
        S: Singular values of the y_j.
        ill_conditioned: What is already known to be.
        epsilons: The thresholds asked for.
        method: Name to record.
        U: Gives the y_j.
        error: How far the y_j may be off; |<u, y>| moves by at most that much.
    """
    S, S0, cosines, error = S.cpu(), base.S.cpu(), cosines.cpu(), numbers(error)
    squares = cosines.double() ** 2
    value = squares.max(dim=0).values.sqrt().clamp(max=1.0)
    rounding = base_rounding(S0, squares)
    least, most = _range_over_bases(S0, squares, tall=base.U.shape[0] > base.U.shape[1])
    # A tenth of a per mille is the rounding of the cosines themselves.
    hangs = ((least[:, None] < epsilons - 1e-4) & (epsilons + 1e-4 <= most[:, None])).any(dim=1)
    lower = (torch.where(hangs, torch.minimum(least, value), value) - error - rounding).clamp_min(0)
    upper = (torch.where(hangs, torch.maximum(most, value), value) + error + rounding).clamp(max=1.0)
    decided = (FACTORISED,) * S.shape[0]
    return CosineBounds(S, lower, upper, ill_conditioned | hangs, decided, method, U, cosines, error + rounding)


def rotation(values: Float[Tensor, " m"], others: Float[Tensor, " n"], largest: float, eps: float) -> Tensor:
    """How far rounding may turn a singular vector towards another: |E| / |s_i - s_l|, at most 1, 0 towards itself.

    Source: Wedin 1972, for a backward error of the SVD of `SVD_ROUNDINGS` roundings of the largest singular value.
    """
    distance = (values[:, None] - others[None, :]).double().abs()
    turned = (SVD_ROUNDINGS * eps * largest / distance.clamp_min(1e-300)).clamp(max=1.0)
    return torch.where(distance == 0, 0.0, turned)


def base_rounding(S0: Float[Tensor, " n"], squares: Float[Tensor, "n k"]) -> Float[Tensor, " k"]:
    """What the rounding of the u_i may change of the largest cosine: the u_i turns towards its neighbours.

    Args:
        S0: Singular values of W0.
        squares: Squared cosines of all u_i to the y_j.
    """
    best, group = squares.argmax(dim=0), _groups(S0)
    turned = rotation(S0[best], S0, float(S0[0]), torch.finfo(S0.dtype).eps)
    turned = torch.where(group[best][:, None] == group[None, :], 0.0, turned)  # any basis of equal values is right
    return (turned**2 * squares.mH).sum(dim=1).sqrt()


def _groups(S0: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """The number of the group of equal singular values that each belongs to."""
    apart = (S0[:-1] - S0[1:]) > CLUSTER_ROUNDINGS * torch.finfo(S0.dtype).eps * S0[:1]
    return torch.cat([apart.new_zeros(1, dtype=torch.long), apart.long().cumsum(dim=0)])


def _range_over_bases(
    S0: Float[Tensor, " n"], squares: Float[Tensor, "n k"], *, tall: bool
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """Smallest and largest max_i |<u_i, y>| over all bases of the eigenspaces of equal singular values.

    A group of g equal values that holds the mass m of y can show a largest cosine between sqrt(m / g) and sqrt(m).
    The vectors of zero singular values of a tall W0 are any vectors outside its range: what y has there may lie along
    one of them, or along none.
    """
    group, tiny = _groups(S0), CLUSTER_ROUNDINGS * torch.finfo(S0.dtype).eps * S0[:1]
    count = int(group[-1]) + 1
    mass = squares.new_zeros(count, squares.shape[1]).index_add(0, group, squares)
    size = torch.bincount(group, minlength=count).to(squares)[:, None]
    if tall and bool(S0[-1] <= tiny):
        mass[-1] = (1 - mass[:-1].sum(dim=0)).clamp_min(0)
        size[-1] = torch.inf
    return (mass / size).max(dim=0).values.sqrt(), mass.max(dim=0).values.sqrt()


def undefined(S: Float[Tensor, " k"], U: Float[Tensor, "d_out k"], method: str) -> CosineBounds:
    """What can be said where W0 has no singular vectors because it is zero: nothing, and every vector is marked."""
    S = S.cpu()
    nothing = torch.zeros_like(S, dtype=torch.float64)
    marked = torch.ones_like(S, dtype=torch.bool)
    one = torch.ones_like(nothing)
    return CosineBounds(S, nothing, one, marked, (FACTORISED,) * S.shape[0], method, lambda: U, None, one)
