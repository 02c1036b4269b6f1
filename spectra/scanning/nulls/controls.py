"""Controls: what chance, noise or storage would do to the same matrix, as tuned matrices of their own."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.engine.tuned import Tuned
from spectra.linalg.operators import Dense, LinearOperator, LowRankUpdate

ROUNDING, GAUSSIAN, LOW_RANK, DIRECTION = "storage rounding", "dense gaussian", "random low rank", "random direction"


# Rows treated at a time: few enough to stay in the processor's cache.
ROWS = 64


@dataclass(frozen=True)
class Storage:
    """How a checkpoint and its base are stored.

    Attributes:
        dtype: The coarser floating dtype of the two.
        on_grid: True when W0 is stored in it.
    """

    dtype: torch.dtype
    on_grid: bool


@dataclass(frozen=True, eq=False)
class Control:
    """A tuned matrix that no training made.

    Attributes:
        null: Its name.
        tuned: The matrix.
        noise: ||W - W0||_F of dense noise; None for a low-rank control.
    """

    null: str
    tuned: Tuned
    noise: float | None = None


def random_low_rank(shape: tuple[int, int], rank: int, frobenius: float, *, seed: int, like: Tensor) -> LowRankUpdate:
    """B @ A with Gaussian factors, scaled to a Frobenius norm: a LoRA update of random directions.

    Args:
        shape: (d_out, d_in).
        rank: Columns of B.
        frobenius: Norm of the product.
        seed: Of the draw.
        like: dtype and device.
    """
    generator = torch.Generator().manual_seed(seed)
    B = torch.randn(shape[0], rank, generator=generator).to(like)
    A = torch.randn(rank, shape[1], generator=generator).to(like)
    # ||B A||_F^2 = <B^H B, A A^H>: rank x rank, the product is not formed.
    size = float(((B.mH @ B).double() * (A @ A.mH).double()).sum()) ** 0.5
    return LowRankUpdate(B, A, frobenius / size)


def gaussian_noise(
    W0: Float[Tensor, "d_out d_in"], frobenius: float, *, seed: int
) -> tuple[Float[Tensor, "d_out d_in"], float]:
    """W0 plus independent normal entries, their norm scaled to `frobenius` in expectation; and the norm they have."""
    sigma = frobenius / W0.numel() ** 0.5
    noisy = torch.empty(W0.shape, dtype=W0.dtype).normal_(generator=torch.Generator().manual_seed(seed)).to(W0.device)
    size = sigma * _norm(noisy)
    return noisy.mul_(sigma).add_(W0), size


def rounding_noise(
    W0: Float[Tensor, "d_out d_in"], storage: Storage, *, seed: int
) -> tuple[Float[Tensor, "d_out d_in"], float]:
    """What saving in a storage dtype does to W0, and the norm of the change.

    A matrix finer than the storage dtype is rounded to it. One that lies on its grid already was rounded before it was
    measured: every entry then moves uniformly within half a unit in its last place, to where it may have come from.

    Args:
        W0: The matrix.
        storage: How the checkpoint is stored.
        seed: Of the second case.
    """
    if not storage.on_grid:
        rounded = W0.to(storage.dtype).to(W0.dtype)
        return rounded, _norm(rounded - W0)
    generator, unit = torch.Generator().manual_seed(seed), torch.finfo(storage.dtype).eps
    noisy, squares = torch.empty_like(W0), 0.0
    for start in range(0, W0.shape[0], ROWS):
        rows = W0[start : start + ROWS]
        half = torch.empty(rows.shape).uniform_(-0.5 * unit, 0.5 * unit, generator=generator).to(W0.device)
        # The exponent bits alone are the power of two below |w|; a unit in the last place is eps times that.
        power = (rows.float().contiguous().view(torch.int32) & 0x7F800000).view(torch.float32)
        moved = half.mul_(power)
        squares += float(torch.linalg.vector_norm(moved)) ** 2
        torch.add(rows, moved.to(W0.dtype), out=noisy[start : start + ROWS])
    return noisy, squares**0.5


def made(
    null: str, W0: LinearOperator, storage: Storage, *, rank: int, frobenius: float, draws: int, seed: int
) -> Iterator[list[Control]]:
    """The draws of one control, those together that share the passes over W0; dense ones alone: each is as large as W0.

    Args:
        null: `LOW_RANK`, `ROUNDING` or `GAUSSIAN`.
        W0: The matrix.
        storage: How the checkpoint is stored.
        rank: Rank of the low-rank control.
        frobenius: Norm that random controls have; rounding has its own.
        draws: Simulations of a random control; rounding has one.
        seed: Seed of the first draw.
    """
    if null == LOW_RANK:
        like = torch.empty(0, dtype=W0.dtype, device=W0.device)
        updates = [random_low_rank(W0.shape, rank, frobenius, seed=seed + i, like=like) for i in range(draws)]
        yield [Control(null, Tuned(update=update)) for update in updates]
        return
    dense = W0.dense()
    for draw in range(draws if null == GAUSSIAN else 1):
        if null == GAUSSIAN:
            noisy, size = gaussian_noise(dense, frobenius, seed=seed + draw)
        else:
            noisy, size = rounding_noise(dense, storage, seed=seed)
        yield [Control(null, Tuned(W=Dense(noisy)), size)]


def _norm(W: Float[Tensor, "d_out d_in"]) -> float:
    """||W||_F: rows in their own arithmetic, their sum in float64."""
    return float(torch.linalg.vector_norm(W, dim=1).double().pow(2).sum()) ** 0.5
