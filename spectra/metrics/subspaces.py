"""Two subspaces against each other: overlap grids, principal angles, maps of single cosines."""

import torch
from jaxtyping import Float
from torch import Tensor


def similarity_map(U1: Float[Tensor, "d n"], U2: Float[Tensor, "d k"]) -> Float[Tensor, "n k"]:
    """|<U1[:, i], U2[:, j]>| for every pair of singular vectors.  Cost O(d n k).

    Source: Shuttleworth et al., arXiv:2410.21228, Figure 2.
        Difference: none; the absolute value, because singular vectors have no sign.
    """
    return (U1.mH @ U2).abs().clamp(max=1.0)


def phi_grid(U1: Float[Tensor, "d n"], U2: Float[Tensor, "d k"]) -> Float[Tensor, "n k"]:
    """phi(i, j) = ||U1[:, :i]^H U2[:, :j]||_F^2 / min(i, j)  for all i <= n, j <= k.  Cost O(d n k).

    Args:
        U1: Orthonormal columns, by decreasing singular value: right singular vectors of A_1, or any singular vectors.
        U2: The same of the other matrix.

    Returns:
        Entry [i - 1, j - 1] is phi(i, j) in [0, 1]: 1 where the smaller subspace lies in the larger one. Random
        subspaces of R^d have the expectation max(i, j) / d.

    Source: Hu et al. 2021, "LoRA", arXiv:2106.09685, section 7.2, equation 4.
        Difference: none; used for left and right vectors, and against W0 (section 7.3) as well as between runs.
    """
    energy = (U1.mH @ U2).double().pow(2).cumsum(dim=0).cumsum(dim=1)
    i = torch.arange(1, energy.shape[0] + 1, device=energy.device)[:, None]
    j = torch.arange(1, energy.shape[1] + 1, device=energy.device)[None, :]
    return energy / torch.minimum(i, j)


def phi(U1: Float[Tensor, "d n"], U2: Float[Tensor, "d k"]) -> float:
    """||U1^H U2||_F^2 / min(n, k): the last entry of `phi_grid`.  Cost O(d n k).

    Source: Hu et al. 2021, arXiv:2106.09685, section 7.2, equation 4.
        Difference: none. It is one minus the squared chordal distance, scaled to [0, 1].
    """
    smaller = min(U1.shape[1], U2.shape[1])
    return float((U1.mH @ U2).double().pow(2).sum()) / smaller if smaller else 0.0


def principal_cosines(U1: Float[Tensor, "d n"], U2: Float[Tensor, "d k"]) -> Float[Tensor, " m"]:
    """Cosines of the principal angles between two subspaces, decreasing: the singular values of U1^H U2.

    Args:
        U1: Orthonormal columns.
        U2: Orthonormal columns.

    Returns:
        min(n, k) numbers in [0, 1]; the last one says how far the worst direction has turned away.

    Source: Björck & Golub 1973, "Numerical methods for computing angles between linear subspaces", theorem 1.
        Difference: cosines only; an angle below sqrt(eps) is not resolved by its cosine (`scipy.linalg.subspace_angles`
        adds the sines). Cost O(d n k).
    """
    return torch.linalg.svdvals((U1.mH @ U2).double()).clamp(max=1.0)
