"""Matrices with a known spectrum and updates with a known truth, shared by the tests of the engine."""

import torch
from torch import Tensor

from spectra.linalg.operators import LowRankUpdate
from spectra.linalg.svd import SVD

SPECTRA = ("head and bulk", "power law", "flat", "rank deficient", "repeated values")


def orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator, dtype=torch.float64))[0]


def spectrum(kind: str, n: int) -> Tensor:
    """n decreasing singular values."""
    index = torch.arange(n, dtype=torch.float64)
    if kind == "head and bulk":
        return torch.cat([torch.linspace(30, 9, 16), torch.linspace(6, 0.5, n - 16)]).double()
    if kind == "power law":
        return 20 * (index + 1) ** -0.7
    if kind == "flat":
        return 2.0 - index / n
    if kind == "rank deficient":
        return torch.where(index < n // 3, 10.0 - 8 * index / n, torch.zeros_like(index))
    if kind == "repeated values":
        return torch.where(index < 6, 9.0 - index, torch.where(index < n // 2, 2.0, 0.7))
    raise ValueError(kind)


def base_matrix(d_out: int, d_in: int, kind: str, seed: int) -> tuple[Tensor, SVD]:
    """A float32 matrix and the float64 factors it was made of."""
    generator = torch.Generator().manual_seed(seed)
    n = min(d_out, d_in)
    U, V = orthonormal(d_out, n, generator), orthonormal(d_in, n, generator)
    S = spectrum(kind, n)
    return ((U * S) @ V.mH).float(), SVD(U, S, V.mH)


def random_update(d_out: int, d_in: int, rank: int, size: float, seed: int) -> LowRankUpdate:
    """A LoRA update of random directions with singular values around `size`."""
    generator = torch.Generator().manual_seed(seed)
    B = orthonormal(d_out, rank, generator)
    A = torch.linspace(size, 0.6 * size, rank, dtype=torch.float64)[:, None] * orthonormal(d_in, rank, generator).mH
    return LowRankUpdate(B.float(), (A / 0.5).float(), 0.5)


def update_with_cosine(base: SVD, cosine: float, at: int, seed: int) -> LowRankUpdate:
    """A dominating rank-1 update whose new leading vector has |cos| = `cosine` to u_at and spreads over the others.

    The right factor is the trailing right singular vector of W0, so that W0 turns the new direction by only
    sigma_n / (20 sigma_1).
    """
    generator = torch.Generator().manual_seed(seed)
    n = base.S.shape[0]
    weights = torch.randn(n, generator=generator, dtype=torch.float64)
    weights[at] = 0
    weights = weights.sign() * weights.abs().clamp(0.5, 1.5)  # evenly spread: no accidental second match
    weights[at] = 0
    weights = weights / torch.linalg.vector_norm(weights) * (1 - cosine**2) ** 0.5
    weights[at] = cosine
    y = base.U @ weights
    return LowRankUpdate(y[:, None].float(), (20 * base.S[0] * base.Vh[-1:]).float(), 1.0)
