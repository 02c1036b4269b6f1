"""One budget of numbers shared out among the ranks of many matrices."""

import heapq
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor


def allocate(squares: Sequence[Float[Tensor, " _"]], costs: Sequence[int], budget: int) -> list[int]:
    """Ranks whose factors take at most `budget` numbers and hold as much of the squared norms as possible.

    Triplet i of matrix m holds squares[m][i] and costs costs[m] = d_out + d_in numbers. Taken by decreasing share
    squares / cost: where all costs are equal that is the best choice, else it is at most one triplet from it.

    Args:
        squares: The leading squared singular values of each matrix, decreasing.
        costs: Numbers per triplet.
        budget: Numbers in all.
    """
    ranks = [0] * len(squares)
    values = [each.tolist() for each in squares]
    queue = [(-own[0] / cost, m) for m, (own, cost) in enumerate(zip(values, costs, strict=True)) if own and own[0] > 0]
    heapq.heapify(queue)
    while queue:
        _, m = heapq.heappop(queue)
        if costs[m] > budget:
            continue  # a cheaper triplet of another matrix may still fit
        budget -= costs[m]
        ranks[m] += 1
        if ranks[m] < len(values[m]) and values[m][ranks[m]] > 0:
            heapq.heappush(queue, (-values[m][ranks[m]] / costs[m], m))
    return ranks
