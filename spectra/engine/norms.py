"""Size and shape of an update, from its factors where it has them."""

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.operators import LinearOperator, LowRankUpdate
from spectra.linalg.svd import low_rank_svd
from spectra.metrics.ranks import effective_rank, stable_rank
from spectra.records.intruder_scan import UpdateNorms


def low_rank_values(update: LowRankUpdate) -> Float[Tensor, " rank"]:
    """Singular values of scaling * B @ A, exactly, from the QR of its factors."""
    return low_rank_svd(update.B, update.A, update.scaling).S


def dense_values(delta_W: Float[Tensor, "d_out d_in"]) -> Float[Tensor, " n"]:
    """All singular values of a dense update, no vectors.  Cost O(d_out d_in n)."""
    return torch.linalg.svdvals(delta_W)


def frobenius(W: LinearOperator) -> float:
    """||W||_F: norms of the rows, their squares summed in float64; a float64 copy of W0 would take 50 times longer."""
    squares = (torch.linalg.vector_norm(rows, dim=1).double().pow(2).sum() for rows in W.row_blocks())
    return sum(float(square) for square in squares) ** 0.5


def norms(S: Float[Tensor, " n"], W0_frobenius: float) -> UpdateNorms:
    """Norms and ranks of an update from all of its singular values that are not zero."""
    size = float(torch.linalg.vector_norm(S.double()))
    return UpdateNorms(
        frobenius=size,
        spectral=float(S.max()) if S.shape[0] else 0.0,
        relative=size / W0_frobenius if W0_frobenius > 0 else 0.0,
        effective_rank=effective_rank(S),
        stable_rank=stable_rank(S),
    )
