"""What chance gives where two subspaces are compared: the null line of phi."""

from functools import lru_cache

import torch

from spectra.metrics.subspaces import phi


@lru_cache(maxsize=4096)
def random_overlaps(d: int, i: int, j: int, draws: int = 99, seed: int = 0) -> tuple[float, ...]:
    """phi of two random subspaces of R^d of i and j dimensions, by simulation, increasing.

    One of them may as well be spanned by the first coordinates, because the other has no preferred direction.
    The expectation is max(i, j) / d (`expected_overlap`).

    Args:
        d: Dimension of the space.
        i: Dimensions of one subspace, at most d.
        j: Dimensions of the other, at most d.
        draws: How many; a value above all of 99 has a chance of 1 % under the null.
        seed: Of the draws.

    Source: Hu et al. 2021, arXiv:2106.09685, section 7.2, shows random matrices as the control of Figure 3.
        Difference: random orthonormal bases instead of the factors of random matrices: the same subspaces. Cost
        O(draws d max(i, j)^2).
    """
    small, large = min(i, j), max(i, j)
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.eye(d, large, dtype=torch.float64)
    drawn = (torch.linalg.qr(torch.randn(d, small, generator=generator, dtype=torch.float64)).Q for _ in range(draws))
    return tuple(sorted(phi(fixed, Q) for Q in drawn))


def expected_overlap(d: int, i: int, j: int) -> float:
    """E phi of two random subspaces of R^d of i and j dimensions:  max(i, j) / d.

    Source: the mean squared coordinate of a random unit vector is 1/d. Difference: none.
    """
    return max(i, j) / d
