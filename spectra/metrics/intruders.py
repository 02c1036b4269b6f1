"""Intruder dimensions: tuned singular vectors that resemble no pre-trained one."""

from jaxtyping import Bool, Float
from torch import Tensor

from spectra.errors import SpectrumError


def max_cosines(U0: Float[Tensor, "d_out n"], U_tuned: Float[Tensor, "d_out k"]) -> Float[Tensor, " k"]:
    """max_i |<U0[:, i], U_tuned[:, j]>| for every tuned vector j.  Cost O(d_out n k).

    Args:
        U0: All left singular vectors of W0 as orthonormal columns.
        U_tuned: The leading k left singular vectors of W_tuned as orthonormal columns.

    Returns:
        The cosines, in [0, 1] to rounding.

    Source: Shuttleworth et al., arXiv:2410.21228, Algorithm 1.
        Difference: the absolute cosine, as in the authors' code; a singular vector has no sign.
    """
    return (U0.mH @ U_tuned).abs().max(dim=0).values


def intruder_mask(
    U0: Float[Tensor, "d_out n"], U_tuned: Float[Tensor, "d_out k"], *, epsilon: float
) -> Bool[Tensor, " k"]:
    """Mark the tuned singular vectors that resemble no pre-trained one.

    Vector j is an intruder when  max_i |<U0[:, i], U_tuned[:, j]>| < epsilon.

    Args:
        U0: All left singular vectors of W0. Passing only the leading ones would count a reordered vector.
        U_tuned: The leading k left singular vectors of W_tuned, by decreasing singular value.
        epsilon: Cosine in (0, 1] below which a vector counts.

    Returns:
        True at j where vector j is an intruder.

    Raises:
        SpectrumError: If epsilon lies outside (0, 1].

    Source: Shuttleworth et al., arXiv:2410.21228, Definition 3.1 and Algorithm 1.
        Difference: the absolute cosine (see `max_cosines`).
    """
    require_epsilon(epsilon)
    return max_cosines(U0, U_tuned) < epsilon


def energy_share(S: Float[Tensor, " k"], mask: Bool[Tensor, " k"]) -> float:
    """sum_{j in I} S_j^2 / sum_{j < k} S_j^2:  what share of the leading vectors' energy intruders hold.

    Args:
        S: Singular values of the leading k tuned vectors; all zero gives 0.
        mask: True where a vector is an intruder.

    Source: proposed in later comparisons of counts and update norms; no canonical definition.
        Difference: S belongs to W_tuned, not to delta_W.
    """
    energy = S.double() ** 2
    total = float(energy.sum())
    return float(energy[mask].sum()) / total if total > 0 else 0.0


def require_epsilon(epsilon: float) -> None:
    """Refuse a threshold outside (0, 1].

    Raises:
        SpectrumError: With the value.
    """
    if not 0 < epsilon <= 1:
        raise SpectrumError(f"epsilon is {epsilon}, but a cosine threshold lies in (0, 1]. Use for instance 0.5.")
