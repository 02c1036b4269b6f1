"""How much of an update falls into the leading subspace of the pre-trained matrix."""

import torch
from jaxtyping import Float
from torch import Tensor


def rho(delta_U0: Float[Tensor, "d_in k"], delta_frobenius: float) -> float:
    """rho_k = ||Q_k delta_W||_F^2 / ||delta_W||_F^2  with  Q_k = U0_k U0_k^H.  Cost O(d_in k).

    Args:
        delta_U0: The product delta_W^H @ U0_k with the k leading left singular vectors of W0; for the right side
            delta_W @ V0_k.
        delta_frobenius: ||delta_W||_F; a zero update gives 0.

    Returns:
        A share in [0, 1]; a random update has k / d_out (right side: k / d_in).

    Source: OPLoRA, arXiv:2510.13003 (the metric rho_k).
        Difference: computed for each side alone.
    """
    if delta_frobenius <= 0:
        return 0.0
    return float(torch.linalg.vector_norm(delta_U0.double())) ** 2 / delta_frobenius**2
