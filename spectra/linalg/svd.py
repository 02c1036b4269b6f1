"""The singular value decomposition: its record, the thin SVD, and the SVD of a low-rank product.

Naming: `Vh` holds the right singular vectors as **rows**; `V` would be its adjoint and is never stored.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import SpectrumError
from spectra.linalg.placement import for_svd
from spectra.linalg.threads import one_thread

# Up to this smaller dimension one thread factorises a matrix sooner than two (`threads`): 384 x 384 in 18 ms, not 50.
LARGEST_ALONE = 1024


@dataclass(frozen=True, eq=False)
class SVD:
    """A (possibly truncated) singular value decomposition  W ~ U @ diag(S) @ Vh.

    Attributes:
        U: Left singular vectors as columns, orthonormal.
        S: Singular values, decreasing and non-negative.
        Vh: Right singular vectors as rows, orthonormal.
    """

    U: Float[Tensor, "d_out n"]
    S: Float[Tensor, " n"]
    Vh: Float[Tensor, "n d_in"]

    def leading(self, k: int) -> "SVD":
        """The k leading triplets (all of them if there are fewer)."""
        return SVD(self.U[:, :k], self.S[:k], self.Vh[:k])

    def to(self, device: torch.device | str) -> "SVD":
        """The same decomposition on a device."""
        return SVD(self.U.to(device), self.S.to(device), self.Vh.to(device))

    def to_dense(self) -> Float[Tensor, "d_out d_in"]:
        """The matrix  U @ diag(S) @ Vh."""
        return (self.U * self.S) @ self.Vh


def thin_svd(W: Float[Tensor, "d_out d_in"]) -> SVD:
    """The thin SVD of a dense matrix: n = min(d_out, d_in) triplets.  Cost O(d_out d_in n).

    Raises:
        SpectrumError: If W has a non-finite entry or LAPACK does not converge.

    Source: Golub & Van Loan, Matrix Computations, 4th ed., section 8.6.
        Difference: none; one sign rule (`fix_signs`) makes the result reproducible.
    """
    require_finite(W)
    try:
        with one_thread() if min(W.shape) <= LARGEST_ALONE else nullcontext():
            try:
                U, S, Vh = (found.to(W.dtype) for found in torch.linalg.svd(for_svd(W), full_matrices=False))
            except torch.linalg.LinAlgError:  # entries so far apart that single precision does not converge
                U, S, Vh = (found.to(W.dtype) for found in torch.linalg.svd(W.cpu().double(), full_matrices=False))
    except torch.linalg.LinAlgError as error:
        raise SpectrumError(
            f"The SVD of a {tuple(W.shape)} matrix did not converge. Leave it out with --exclude."
        ) from error
    return fix_signs(SVD(U, S, Vh)).to(W.device)


@one_thread()
def low_rank_svd(B: Float[Tensor, "d_out rank"], A: Float[Tensor, "rank d_in"], scaling: float = 1.0) -> SVD:
    """The SVD of  scaling * B @ A  from the QR factors of B and A^T, without forming the product.

    B = Q_B R_B and A^T = Q_A R_A give  B A = Q_B (R_B R_A^T) Q_A^T,  and the core is only rank x rank.
    Cost O((d_out + d_in) rank^2 + rank^3). A negative scaling is carried by U.

    Args:
        B: Up-projection of the adapter.
        A: Down-projection of the adapter.
        scaling: Factor on the product (alpha/rank, or alpha/sqrt(rank) for rsLoRA).

    Returns:
        min(rank, d_out, d_in) triplets; trailing singular values may be zero.

    Source: the standard QR-core construction, e.g. Hogben (ed.), Handbook of Linear Algebra, 2nd ed., ch. 45.
        Difference: none.
    """
    require_finite(A)
    require_finite(B)
    Q_B, R_B = torch.linalg.qr(B)
    Q_A, R_A = torch.linalg.qr(A.mH)
    core = thin_svd(scaling * (R_B.cpu() @ R_A.mH.cpu())).to(Q_B.device)
    return fix_signs(SVD(Q_B @ core.U, core.S, core.Vh @ Q_A.mH))


def fix_signs(svd: SVD) -> SVD:
    """Choose each pair's sign so that the entry of U largest in magnitude is positive.

    A singular pair (u, v) is defined up to a common sign; every decomposition in the project passes through this rule.
    """
    if svd.U.shape[1] == 0:
        return svd
    largest = svd.U.abs().argmax(dim=0, keepdim=True)
    signs = torch.where(svd.U.gather(0, largest).squeeze(0) < 0, -1.0, 1.0).to(svd.U.dtype)
    return SVD(svd.U * signs, svd.S, svd.Vh * signs[:, None])


def require_finite(matrix: Float[Tensor, "..."]) -> None:
    """Refuse a matrix with NaN or infinity: a factorisation would spread them silently.

    Raises:
        SpectrumError: With the number of offending entries.
    """
    # A sum is finite only if all entries are, and takes a tenth of the time; that of huge entries may not be.
    if not bool(torch.isfinite(matrix.sum())) and not bool(torch.isfinite(matrix).all()):
        bad = int((~torch.isfinite(matrix)).sum())
        raise SpectrumError(
            f"A {tuple(matrix.shape)} matrix has {bad} entries that are NaN or infinite. "
            "Check the checkpoint for a diverged or truncated training run."
        )
