"""How many vectors count as intruders: against epsilon, against k, and for directions drawn at random.

Works on the tidy table of verdicts (one row per matrix and vector), so that reports and figures need no torch.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

EPSILONS: tuple[float, ...] = tuple(round(0.02 * step, 2) for step in range(1, 51))


def primary_side(vectors: "pd.DataFrame") -> "pd.DataFrame":
    """The rows that a count speaks of: left vectors, unless only right ones were scanned."""
    if "side" not in vectors or not (vectors["side"] == "left").any():
        return vectors
    return vectors[vectors["side"] == "left"]


def counts_by_epsilon(vectors: "pd.DataFrame", by: Sequence[str], epsilons: Iterable[float]) -> "pd.DataFrame":
    """Bracket the intruder count at every epsilon from the bounds on each vector's max|cos|.

    The true count at e lies between  #{j : upper_j < e}  and  #{j : lower_j < e};  both agree where the scan decided.

    Args:
        vectors: One row per matrix and vector, with columns lower and upper.
        by: Columns that tell apart what is counted separately, such as ["trial"].
        epsilons: Where to count, in (0, 1].

    Returns:
        Columns `by`, epsilon, count (proven), at_most, vectors.
    """
    import pandas as pd

    grid = np.asarray(list(epsilons), dtype=float)
    rows = []
    for key, group in primary_side(vectors).groupby(list(by), sort=False):
        proven = (group["upper"].to_numpy(dtype=float)[:, None] < grid).sum(axis=0)
        possible = (group["lower"].to_numpy(dtype=float)[:, None] < grid).sum(axis=0)
        for epsilon, count, at_most in zip(grid, proven, possible, strict=True):
            rows.append(
                {
                    **dict(zip(by, key, strict=True)),
                    "epsilon": float(epsilon),
                    "count": int(count),
                    "at_most": int(at_most),
                    "vectors": len(group),
                }
            )
    return pd.DataFrame(rows, columns=[*by, "epsilon", "count", "at_most", "vectors"])


def counts_by_k(vectors: "pd.DataFrame", by: Sequence[str]) -> "pd.DataFrame":
    """Intruders among the leading 1, 2, ..., k vectors of every matrix, at the scan's epsilon.

    Returns:
        Columns `by`, k, count, vectors.
    """
    import pandas as pd

    rows = []
    for key, group in primary_side(vectors).groupby(list(by), sort=False):
        index = group["index"].to_numpy(dtype=int)
        intruding = group["is_intruder"].to_numpy(dtype=bool)
        for k in range(1, int(index.max()) + 2):
            within = index < k
            rows.append(
                {
                    **dict(zip(by, key, strict=True)),
                    "k": k,
                    "count": int((intruding & within).sum()),
                    "vectors": int(within.sum()),
                }
            )
    return pd.DataFrame(rows, columns=[*by, "k", "count", "vectors"])


@lru_cache(maxsize=256)
def random_direction_cosine(dimension: int, n: int | None = None) -> float:
    """Expected  max_i |<u_i, y>|  of a random unit vector y against n orthonormal vectors u_i.

    E max|y_i| = E max|g_i| / E||g||  for a standard normal g, because the direction of g does not depend on its
    length:  E max|g_i| = integral of 1 - erf(x / sqrt 2)^n dx,  E||g|| = sqrt 2 Gamma((d+1)/2) / Gamma(d/2).

    Args:
        dimension: Length d of the vectors: d_out for left singular vectors.
        n: How many base vectors there are, min(d_out, d_in); `dimension` if omitted.
    """
    from scipy.integrate import quad
    from scipy.special import erf, gammaln

    n = dimension if n is None else n
    # The integrand is 1 below the bulk of max|g| and vanishes above it; 12 standard deviations hold all of it.
    maximum, _ = quad(lambda x: 1.0 - erf(x / math.sqrt(2.0)) ** n, 0.0, 12.0, limit=200)
    length = math.sqrt(2.0) * math.exp(gammaln((dimension + 1) / 2) - gammaln(dimension / 2))
    return float(maximum / length)
