"""Where small dense work is done: numbers about vectors on the CPU, in float64; the vectors where they are computed.

A Krylov run makes long vectors and short problems: projected matrices of a few hundred rows, their eigenpairs, bounds,
brackets, counts. On a GPU each of the hundred small operations of such a problem costs a start, each decision on its
result a synchronisation, and a dense factorisation of that size more than on the processor. So whatever is short is
fetched once a step by `numbers` and stays on the CPU: singular values, angles, brackets, cosines, coordinates. `U`,
`Vh` and every block of vectors stay on the device.

Dense factorisations of whole matrices go to the CPU up to a size, too (`for_svd`, `for_eigenpairs`). Beyond it they are
made on the device in float64, and those of float64 matrices on the CPU: cuSOLVER rounds a float32 SVD more than LAPACK
does, so that brackets missed the truth in 2 of 48 draws of a fuzz, and it fails on some float64 problems that LAPACK
solves (`reports/gpu_benchmark.md`).
"""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

# A factorisation with a smaller dimension up to this is made on the CPU, wherever the matrix is.
SVD_ON_CPU = 1024
EIGENPROBLEM_ON_CPU = 640


def numbers(tensor: Shaped[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The tensor in float64 on the CPU; a tensor that is both already is not copied."""
    return tensor.to(device="cpu", dtype=torch.float64)


def for_svd(W: Float[Tensor, "d_out d_in"]) -> Float[Tensor, "d_out d_in"]:
    """The matrix where, and in the precision in which, its singular value decomposition is made."""
    return _placed(W, min(W.shape) <= SVD_ON_CPU)


def for_eigenpairs(H: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """The matrix where, and in the precision in which, its eigenpairs are found."""
    return _placed(H, H.shape[0] <= EIGENPROBLEM_ON_CPU)


def _placed(matrix: Float[Tensor, "d_out d_in"], small: bool) -> Float[Tensor, "d_out d_in"]:
    if matrix.device.type in ("cpu", "mps") or small or matrix.dtype == torch.float64:
        return matrix.cpu()
    return matrix.double()
