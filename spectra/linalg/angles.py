"""How far a Ritz vector can be from the singular vector it stands for: bounds from the residuals alone.

Let H be the Gram operator, theta_1 > theta_2 > ... the Ritz values and rho_l the residual of pair l (`krylov`).

**By the nearest neighbour** (Davis & Kahan): sin(angle_j) <= rho_j / gap_j, gap_j the distance of theta_j to the
nearest other eigenvalue.

**By the complement of the s leading pairs**, s >= j. Rayleigh-Ritz leaves no coupling among the s Ritz vectors Z, only
with their complement: H = [Theta, R^H; R, H_c] in (Z, Z_perp). For a unit eigenvector u = Z a + w of eigenvalue t,

    (H_c - t) w = -R a            =>  ||w||  <=  ||R a|| / (theta_j - tau_s),     tau_s an upper bound on H_c,
    (theta_l - t) a_l = -r_l^H w  =>  |a_l|  <=  ||w|| rho_l / gap_jl,            l != j:

the error within Z is of second order. With kappa^2 = sum_{l != j} (rho_l / gap_jl)^2 and P^2 = sum rho_l^2, l <= s,

    ||w|| <= rho_j / (theta_j - tau_s - P kappa),     sin(angle_j) <= ||w|| sqrt(1 + kappa^2).

Where values lie close together but far above the rest, as at the head of a trained matrix, this is smaller by the ratio
of the two gaps. Both bounds assume that the run missed no leading eigenvalue: tau_s = theta_s + P.

**Of the images.** On the Gram operator of a tall W the Ritz vectors z_j are right singular vectors, and the left ones
are their images W z_j / sqrt(theta_j), orthogonal as the z_j are. From <W z_j, u_i> = sigma_i <z_j, v_i>,

    sin(angle of image j)^2 = sum_{i != j} (lambda_i / theta_j) <z_j, v_i>^2,
    |<z_j, v_i>| <= rho_j sin(angle_i) / gap_ij        by the second line above:

only larger singular values weigh more than in the angle of z_j itself, and those terms are of second order.

Source: Davis & Kahan 1970; Parlett, The Symmetric Eigenvalue Problem, ch. 11. The other bounds are derived above.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spectra.linalg.krylov import RitzPairs
from spectra.linalg.threads import one_thread

# Only a gapless run of pairs whose neighbour bound lies below this serves as the s leading ones: Ritz values that have
# not found their place yet say little of what lies between them.
TRUSTED_ANGLE = 0.2
# Roundings of the product of its singular value and the largest, by which the relation of a Ritz pair may be off ...
RELATION_ROUNDINGS = 8.0
# ... and at least so many of the largest eigenvalue: in a basis that mixes all vectors, entries of T are of its size.
LEAST_ROUNDINGS = 1.0
# An eigenvalue of the Gram operator below this many roundings of the largest one may as well be zero.
NULL_ROUNDINGS = 64.0


@one_thread()
def angle_bounds(
    pairs: RitzPairs, count: int, dtype: torch.dtype, limit: float | None = None
) -> Float[Tensor, " count"]:
    """Bound on sin(angle) between each of the first Ritz vectors and its eigenvector, 1 where nothing is known.

    Args:
        pairs: Rayleigh-Ritz data, values decreasing.
        count: Vectors wanted.
        dtype: Arithmetic in which the space was built: its rounding mixes neighbours, in either bound.
        limit: All eigenvalues but those of the Ritz values above it are known to lie below it (`completeness`). None
            assumes that the Ritz values that follow say where the next eigenvalues are.
    """
    if limit is not None:
        return _angles_above(pairs, limit, dtype)[:count]
    rounding = residual_rounding(pairs, dtype) + pairs.deflation
    reach = pairs.residuals + rounding
    bound = _by_neighbour(pairs.values, reach)
    bound = torch.where(_is_rounding(pairs.values, pairs.largest, dtype), 1.0, bound)
    trusted = int(torch.cumprod((bound <= TRUSTED_ANGLE).int(), dim=0).sum())
    if trusted:
        sharper = _by_complement(pairs.values[:trusted], pairs.residuals[:trusted], reach[:trusted])
        mixed = rounding[:trusted] / nearest_distance(pairs.values)[:trusted].clamp_min(1e-300)
        bound[:trusted] = torch.minimum(bound[:trusted], sharper + mixed)
    return bound[:count]


def _angles_above(pairs: RitzPairs, limit: float, dtype: torch.dtype) -> Float[Tensor, " s"]:
    """The same bounds for the Ritz values above the limit, which takes the place of those that follow."""
    s = int((pairs.values > limit).sum())
    values, residuals = pairs.values[:s], pairs.residuals[:s]
    if s == 0:
        return values
    rounding = residual_rounding(pairs, dtype)[:s] + pairs.deflation
    reach = residuals + rounding
    end = values.new_tensor([limit])
    bound = _by_neighbour(torch.cat([values, end]), torch.cat([reach, torch.zeros_like(end)]))[:s]
    sharper = _by_complement(values, residuals, reach, limit)
    mixed = rounding / nearest_distance(torch.cat([values, end]))[:s].clamp_min(1e-300)
    return torch.where(_is_rounding(values, pairs.largest, dtype), 1.0, torch.minimum(bound, sharper + mixed))


def _is_rounding(values: Float[Tensor, " n"], largest: float, dtype: torch.dtype) -> Bool[Tensor, " n"]:
    """True for eigenvalues that are rounding of the largest one (a null space): no vectors can be told apart there."""
    return values <= NULL_ROUNDINGS * torch.finfo(dtype).eps * largest


def image_angle_bounds(pairs: RitzPairs, angles: Float[Tensor, " k"], dtype: torch.dtype) -> Float[Tensor, " k"]:
    """Bound on sin(angle) of the images W z_j of Ritz vectors on W^H W: left singular vectors of a tall W.

    Args:
        pairs: Rayleigh-Ritz data, values decreasing.
        angles: Bounds of the first k Ritz vectors themselves.
        dtype: Arithmetic in which the space was built.
    """
    k = angles.shape[0]
    values, rounding = pairs.values[:k].clamp_min(0), residual_rounding(pairs, dtype)[:k]
    reach = pairs.residuals[:k] + rounding
    gap = values[:, None] - values[None, :] - reach[:, None]  # rows i, columns j
    mixed = (pairs.residuals[None, :k] * angles[:, None] + rounding[None, :]) / gap.clamp_min(1e-300)
    larger = torch.triu(torch.ones_like(gap), diagonal=1) * (values[:, None] / values[None, :].clamp_min(1e-300))
    # Where the intervals overlap nothing is known of the mixture, but the angle itself then says 1 already.
    added = torch.where(gap > 0, larger * mixed**2, 0.0).sum(dim=0)
    # A product with W is exact to roundings of sigma_1, whatever sigma_j.
    formed = 4 * torch.finfo(dtype).eps * (pairs.largest / values.clamp_min(1e-300)).sqrt()
    return ((angles**2 + added).sqrt() + formed).clamp(max=1.0)


def residual_rounding(pairs: RitzPairs, dtype: torch.dtype) -> Float[Tensor, " n"]:
    """What rounding leaves of every residual, however long the run: 8 eps sqrt(lambda_1 theta_l), or eps lambda_1."""
    size = (pairs.largest * pairs.values.clamp_min(0)).sqrt() if pairs.rounding is None else pairs.rounding
    return torch.finfo(dtype).eps * (RELATION_ROUNDINGS * size).clamp_min(LEAST_ROUNDINGS * pairs.largest)


def nearest_distance(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Distance of each value to the nearest other one."""
    distance = values[:-1] - values[1:]
    infinite = values.new_full((1,), float("inf"))
    return torch.minimum(torch.cat([distance, infinite]), torch.cat([infinite, distance]))


def _by_neighbour(values: Float[Tensor, " n"], reach: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Residual over the distance to the nearest other Ritz value, which its own residual brings nearer."""
    distance = values[:-1] - values[1:]
    infinite = values.new_full((1,), float("inf"))
    gap = torch.minimum(torch.cat([distance - reach[1:], infinite]), torch.cat([infinite, distance - reach[:-1]]))
    return torch.where(gap > 0, reach / gap.clamp_min(1e-300), 1.0).clamp(max=1.0)


def _by_complement(
    values: Float[Tensor, " s"], residuals: Float[Tensor, " s"], reach: Float[Tensor, " s"], limit: float | None = None
) -> Float[Tensor, " s"]:
    """The second bound, for the best number of leading pairs: rows l and s, columns j.

    A limit on the eigenvalues that follow is, with P, a limit on the complement of all s pairs.
    """
    gap = (values[:, None] - values[None, :]).abs() - reach[None, :]
    ratio = torch.where(gap > 0, residuals[:, None] / gap.clamp_min(1e-300), float("inf")).fill_diagonal_(0.0)
    kappa = (ratio**2).cumsum(dim=0).sqrt()
    P = (residuals**2).cumsum(dim=0).sqrt()[:, None]
    ceiling = values + reach
    if limit is not None:
        ceiling = torch.cat([ceiling[:-1], ceiling.new_tensor([limit])])
    outside = values[None, :] - reach[None, :] - ceiling[:, None] - P - P * kappa
    bound = reach[None, :] / outside.clamp_min(1e-300) * (1 + kappa**2).sqrt()
    bound = torch.where((outside > 0) & torch.isfinite(kappa), bound, float("inf"))
    # outside <= 0 for s <= j already: theta_j is no larger than theta_s there.
    return bound.min(dim=0).values
