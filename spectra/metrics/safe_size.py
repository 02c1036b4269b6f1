"""The size below which no update whatever makes an intruder: a promise, where `thresholds` predicts.

Let W = W0 + delta_W with ||delta_W||_2 <= c, and let (x, y) be one of its singular pairs with value s. In the basis of
W0, y_i s = s_i x_i + p_i and x_i s = s_i y_i + q_i with ||p||, ||q|| <= c, so that

    y_i = (s p_i + s_i q_i) / (s^2 - s_i^2),      |y_i|^2 <= (p_i^2 + q_i^2) / (2 g_i^2),
    g_i(s) = |s^2 - s_i^2| / sqrt(2 (s^2 + s_i^2)).

What y has outside the m base vectors with the smallest g_i is therefore at most c / g_(m+1), and one of these m has
max_i |<u_i, y>|^2 >= (1 - c^2 / g_(m+1)^2) / m. By Weyl s lies within c of the singular value of W0 of the same number.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import SpectrumError
from spectra.metrics.intruders import require_epsilon

POINTS = 129  # at which s is looked at; between them g changes by no more than s does
HALVINGS = 40  # of the search for the size


def safe_size(S0: Float[Tensor, " n"], *, k: int, epsilon: float) -> Float[Tensor, ""]:
    """The largest spectral norm that this bound allows an update without any intruder among the k leading vectors.

    c* = max { c : for all j < k and all s with |s - s_j| <= c there is an m < 1/epsilon^2 with
                   c <= g_(m+1)(s) sqrt(1 - m epsilon^2) }.

    It holds for updates of any rank and any direction, for left and for right vectors. The directions of a trained
    update are rarely the worst ones: `thresholds.random_critical_sizes` of a weight matrix is some 30 to 100 times as
    large, because a direction drawn at random has little to do with the vectors that lie closest together.

    Args:
        S0: All singular values of W0, decreasing.
        k: Leading vectors looked at.
        epsilon: Cosine in (0, 1] below which a vector counts.

    Returns:
        The size; 0 where 1/epsilon^2 or more of the leading values are equal, for their vectors are interchangeable.

    Raises:
        SpectrumError: If W0 is zero or epsilon lies outside (0, 1].

    Source: the residuals are those of Wedin's theorem (Wedin 1972, BIT 12), written per coordinate.
        Difference: what is bounded is the largest coordinate, not the angle to a subspace of fixed dimension.
    Cost: O(HALVINGS k POINTS n).
    """
    require_epsilon(epsilon)
    if not float(S0[0]) > 0:
        raise SpectrumError("W0 has only zero singular values, so no size of an update is safe. Leave it out.")
    values = S0.double()
    low, high = values.new_zeros(()), values[0]
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _is_safe(values, float(middle), k, epsilon) else (low, middle)
    return low


def _is_safe(S: Tensor, c: float, k: int, epsilon: float) -> bool:
    """Whether every s that a leading value may have leaves its vector one base vector of at least epsilon."""
    n = S.shape[0]
    offsets = torch.linspace(-c, c, POINTS, dtype=S.dtype, device=S.device)
    s = (S[: min(k, n), None] + offsets).clamp_min(0).flatten()[:, None]
    squares = s * s
    g = (squares - S * S).abs() / (2 * (squares + S * S)).clamp_min(torch.finfo(S.dtype).tiny).sqrt()
    # A tall W0 leaves y a part outside its span, which belongs to no base vector: g of a singular value of zero.
    outside = s[:, 0] / 2**0.5
    between = c / (POINTS - 1)  # g is Lipschitz with constant 1, and no s is farther than this from a point
    several = [m for m in range(1, n + 1) if m * epsilon**2 < 1]
    nearest = g.topk(min(n, several[-1] + 1), dim=1, largest=False).values if several else g[:, :0]
    safe = torch.zeros(s.shape[0], dtype=torch.bool, device=S.device)
    for m in several:
        rest = torch.minimum(nearest[:, m], outside) if m < n else outside
        safe |= (rest - between) * (1 - m * epsilon**2) ** 0.5 >= c
    return bool(safe.all())
