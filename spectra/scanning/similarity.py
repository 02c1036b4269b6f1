"""The map of cosines between leading base and tuned vectors: the paper's Figure 2, for one matrix."""

import numpy as np
import torch

from spectra.linalg.svd import thin_svd
from spectra.weights import MatrixPair


def similarity(pair: MatrixPair, top: int = 32, *, device: str = "cpu") -> np.ndarray:
    """|cos| between the leading left singular vectors of W0 (rows) and of W_tuned (columns).

    Args:
        pair: One matched matrix.
        top: Vectors of each side; all of them where there are fewer.
        device: torch device of the two factorisations.

    Returns:
        An array (top, top) of cosines in [0, 1]. An untuned matrix gives the identity.

    Cost: two thin SVDs, O(d_out d_in n).
    """
    base = thin_svd(pair.W0.load(device=device)).leading(top)
    tuned = thin_svd(pair.W_tuned(torch.float32, device)).leading(top)
    return (base.U.mH @ tuned.U).abs().clamp(max=1.0).cpu().numpy()
