"""What tuning left of the leading pre-trained triplets: their diagonal, and their singular values."""

import torch
from jaxtyping import Float
from torch import Tensor


def diagonal_retention(
    U0: Float[Tensor, "d_out k"], W_tuned_V0: Float[Tensor, "d_out k"], S0: Float[Tensor, " k"]
) -> Float[Tensor, " k"]:
    """u_i^H W_tuned v_i / s_i  of each leading triplet (u_i, s_i, v_i) of W0.  Cost O(d_out k).

    Args:
        U0: Leading left singular vectors of W0.
        W_tuned_V0: W_tuned @ V0 with its leading right singular vectors.
        S0: Its leading singular values, positive.

    Returns:
        1 where the triplet's own action is untouched, below 1 where it shrank, negative where it was turned round.
        Independent of signs and of scale; NaN-free, since values of zero give 1 (nothing was there to be kept).

    Source: first-order perturbation theory, d s_i = u_i^H delta_W v_i (Stewart & Sun 1990, section IV.2).
        Difference: the full diagonal with W_tuned, not only the first-order change. Mixing with other directions is
        not seen: a tuned matrix can keep every diagonal and still add new leading directions.
    """
    diagonal = (U0.double() * W_tuned_V0.double()).sum(dim=0)
    present = S0 > 0
    return torch.where(present, diagonal / S0.double().clamp_min(1e-300), torch.ones_like(diagonal))


def spectrum_drift(S0: Float[Tensor, " k"], S_tuned: Float[Tensor, " k"]) -> float:
    """||S_tuned - S0||_2 / ||S0||_2  over the leading k singular values, each in its own order.  Cost O(k).

    Returns:
        0 for an untuned matrix and for a pure rotation; at most ||delta_W||_F / ||S0||_2. A zero base gives 0.

    Source: the distance of Mirsky's theorem (Mirsky 1960; Horn & Johnson, Matrix Analysis, corollary 7.4.9.3).
        Difference: leading k only, and relative.
    """
    size = float(torch.linalg.vector_norm(S0.double()))
    return float(torch.linalg.vector_norm(S_tuned.double() - S0.double())) / size if size > 0 else 0.0
