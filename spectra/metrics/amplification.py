"""How much an update amplifies directions that the pre-trained matrix hardly uses."""

import torch
from jaxtyping import Float
from torch import Tensor


def amplification(delta_frobenius: float, U: Float[Tensor, "d_out r"], W0_V: Float[Tensor, "d_out r"]) -> float | None:
    """||delta_W||_F / ||U^H W0 V||_F,  U and V the leading r singular vectors of delta_W.  Cost O(d_out r^2).

    Args:
        delta_frobenius: ||delta_W||_F.
        U: Left singular vectors of delta_W as columns.
        W0_V: The product W0 @ V with its right singular vectors.

    Returns:
        The factor; large where the update works in directions that W0 does not emphasise. None when W0 vanishes there.

    Source: Hu et al. 2021, "LoRA", arXiv:2106.09685, section 7.3 and Table 7 (GPT-3: 6.91 / 0.32 = 21.5 at r = 4).
        Difference: none. It grows with the size of the update: compare it at equal norms, or with its control.
    """
    inside = float(torch.linalg.matrix_norm((U.mH @ W0_V).double()))
    return delta_frobenius / inside if inside > 0 else None
