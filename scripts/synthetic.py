"""Synthetic weights with a realistic spectrum (heavy head, bulk, small tail), for the benchmarks."""

import torch
from torch import Tensor

from spectra.linalg.operators import LowRankUpdate


def orthonormal(rows: int, columns: int, generator: torch.Generator, device: str = "cpu") -> Tensor:
    """Orthonormal columns of a random direction."""
    return torch.linalg.qr(torch.randn(rows, columns, generator=generator).to(device))[0]


def singular_values(n: int, tall_or_wide: bool) -> Tensor:
    """A head of 32 values falling like i^-1/2 from 40, a bulk from 5 to 1, a tail to 1 % (square: 0.1 %) of the top.

    A rectangular random matrix has no small singular values (Marchenko & Pastur), a square one has; trained weights
    keep that difference.
    """
    head = 40.0 / torch.arange(1, 33).sqrt()
    bulk = torch.linspace(5.0, 1.0, n - 32 - n // 20)
    tail = torch.linspace(1.0, 0.4 if tall_or_wide else 0.04, n // 20)
    return torch.cat([head, bulk, tail])


def base(d_out: int, d_in: int, seed: int, device: str = "cpu") -> Tensor:
    """A float32 base matrix."""
    generator = torch.Generator().manual_seed(seed)
    n = min(d_out, d_in)
    S = singular_values(n, d_out != d_in).to(device)
    return (orthonormal(d_out, n, generator, device) * S) @ orthonormal(d_in, n, generator, device).mH


def low_rank(d_out: int, d_in: int, seed: int, rank: int = 8, size: float = 18.0) -> LowRankUpdate:
    """A LoRA update whose singular values fall from `size` to 0.5 `size`: most of them lead W_tuned, as intruders."""
    generator = torch.Generator().manual_seed(seed)
    S = torch.linspace(size, 0.5 * size, rank)
    B = orthonormal(d_out, rank, generator)
    return LowRankUpdate(B, S[:, None] * orthonormal(d_in, rank, generator).mH, 1.0)


def dense(d_out: int, d_in: int, seed: int, size: float = 0.02) -> Tensor:
    """A dense update as full fine-tuning makes it: full rank, small entries against the bulk."""
    generator = torch.Generator().manual_seed(seed)
    return size * torch.randn(d_out, d_in, generator=generator)
