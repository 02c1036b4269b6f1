"""The cluster-aware score: how much of a tuned vector lies in a few *neighbouring* pre-trained ones."""

import torch
from jaxtyping import Float
from torch import Tensor

WIDTH = 16


def window_cosines(cosines: Float[Tensor, "n k"], width: int = WIDTH) -> Float[Tensor, " k"]:
    """sqrt( max_i  sum_{i <= l < i + width} <u_l, y_j>^2 )  for every tuned vector j.  Cost O(n k).

    Where singular values lie close together, tuning rotates vectors among their neighbours: none of the n cosines stays
    large, although y_j is still made of the same few u_l. This score asks for the cosine of y_j to the subspace of
    `width` neighbours, by decreasing singular value, and takes the best window.

    Args:
        cosines: <u_i, y_j> with **all** pre-trained singular vectors u_i in the order of their singular values.
        width: Neighbours in a window; 1 gives `intruders.max_cosines`, n or more the length of y_j's projection on
            the span of all u_i.

    Returns:
        Scores in [0, 1], never below the largest single cosine.

    Source: our own; the reason is Davis & Kahan 1970 (inside a cluster only the subspace is determined).
        Difference: a window of fixed width is no cluster: it forgives a rotation among 16 neighbours that are well
        apart too. Read it beside max|cos|, not instead of it.
    """
    squares = torch.nn.functional.pad(cosines.double() ** 2, (0, 0, 1, 0)).cumsum(dim=0)
    n = cosines.shape[0]
    if n <= width:
        return squares[-1].clamp(0, 1).sqrt()
    return (squares[width:] - squares[:-width]).max(dim=0).values.clamp(0, 1).sqrt()
