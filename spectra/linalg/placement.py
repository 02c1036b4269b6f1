"""Where small dense work is done: numbers about vectors on the CPU, in float64; the vectors where they are computed.

A Krylov run makes long vectors and short problems: projected matrices of a few hundred rows, their eigenpairs, bounds,
brackets, counts. On a GPU each of the hundred small operations of such a problem costs a start, each decision on its
result a synchronisation, and a dense factorisation of that size more than on the processor. So whatever is short is
fetched once a step by `numbers` and stays on the CPU: singular values, angles, brackets, cosines, coordinates. `U`,
`Vh` and every block of vectors stay on the device.

Dense factorisations of whole matrices go to the CPU up to a size, too (`for_svd`, `for_eigenpairs`).
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
    """The matrix where its singular value decomposition is made."""
    return W.cpu() if min(W.shape) <= SVD_ON_CPU else W


def for_eigenpairs(H: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """The matrix where its eigenpairs are found."""
    return H.cpu() if H.shape[0] <= EIGENPROBLEM_ON_CPU else H
