"""Bounds on max_i |<u_i, y>| over all singular vectors u_i of W0, from a few block Lanczos steps.

The question "does y resemble *any* singular vector of W0?" needs no singular vector inside the spectrum. Let
H = W0 W0^H and let Q be the basis of a block Krylov space with  H Q = Q T + Q_next R E^T  (`krylov`). For a unit
eigenvector u of H with eigenvalue t, write a = Q^H u and b = Q_next^H u. Multiplying the relation by u^H from the
left gives, exactly,

    (T - t) a + E R^H b = 0,        ||a||^2 + ||b||^2 <= 1.                                            (1)

If y = Q g lies in the space then <u, y> = g^H a, so every u with eigenvalue t obeys the bound

    |<u, y>|^2 <= F(t) = max { (g^H a)^2 : (a, b) satisfies (1) }.

With one start column and exact arithmetic F is the Christoffel function of the spectral measure of y, that is the
Chebyshev-Markov-Stieltjes bound on its mass at a single point. The block form is never larger, uses whatever else
the space knows (converged leading vectors, the other y's), and stays valid when (1) holds only up to an error.

To take the supremum over t *rigorously*, an interval [c - h, c + h] is bounded at once: there
||N x|| <= h ||x|| with N = [T - c, E R^H], x = (a, b), and Cauchy-Schwarz in the metric alpha + N^H N gives

    (g^H a)^2 <= (alpha + h^2) * g~^H (alpha + N^H N)^{-1} g~      for every alpha > 0,                (2)

g~ = (g, 0). Intervals whose bound is too large are bisected (branch and bound).

Source: Christoffel functions and Gauss quadrature: Golub & Meurant, Matrices, Moments and Quadrature, ch. 6;
    Krein & Nudelman, The Markov Moment Problem. Statements (1)-(2) are derived above.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.angles import RELATION_ROUNDINGS
from spectra.linalg.brackets import Brackets, brackets_from_known
from spectra.linalg.krylov import RitzPairs
from spectra.linalg.threads import one_thread

LARGEST_DEPTH = 16
# Points looked at before the search begins.
PROBES = 24


@one_thread()
def spectral_brackets(
    pairs: RitzPairs,
    coordinates: Float[Tensor, "n k"],
    known: Brackets,
    epsilons: Float[Tensor, " e"],
    atoms: Float[Tensor, " a"],
    *,
    dtype: torch.dtype,
    right_space: bool = False,
    floor: float = 0.0,
    margin: Float[Tensor, " k"] | None = None,
) -> Brackets:
    """Bracket max_i |<u_i, y_j>| with what a Krylov space on W0 proves.

    Args:
        pairs: Rayleigh-Ritz data of the space on the smaller Gram operator of W0.
        coordinates: Columns g_j with y_j = Q g_j (left space), or W0^H y_j = Q g_j (right space), after deflation.
        known: What deflated (cached) singular vectors of W0 say about the same y_j.
        epsilons: The thresholds asked for; `rest` is sought below the first one above the lower bound.
        atoms: Bounds on the sine of the angles of the leading Ritz vectors that each stand for one known singular
            vector of W0, none missing among them.
        dtype: Arithmetic in which the space was built.
        right_space: True for a tall W0: the space lives on W0^H W0, the eigenvector is the right singular vector
            v = W0^H u / sigma, and  <u, y> = <v, W0^H y> / sigma.  Bounds are divided by sqrt(t), so they say
            nothing near t = 0.
        floor: The supremum is taken over t >= floor only. In right space the caller proves that H has no smaller
            eigenvalue (`definite`); without that, the mass that y has outside the range of W0 (an atom at t = 0
            that belongs to no singular vector of the thin SVD) would count.
        margin: What the caller will add to `rest`: bounds are sought this far below the threshold.

    Returns:
        Brackets for the y_j as given; the caller widens them by the error of y_j itself.
    """
    G = pairs.vectors.mH @ coordinates.double()
    count = atoms.shape[0]
    scales = pairs.values.clamp_min(0).sqrt() if right_space else torch.ones_like(pairs.values)
    seen = brackets_from_known(G[:count], torch.linalg.vector_norm(G, dim=0), atoms.clamp(max=1.0), scales[:count])
    brackets = known.with_more_known(seen)

    # All other singular vectors are orthogonal to the known ones: drop those coordinates, pay for their angles.
    leak = (G[:count].abs() * atoms[:, None]).sum(dim=0)
    wanted = brackets.next_target(epsilons) - (margin if margin is not None else 0.0)
    searched = (brackets.is_open(epsilons) & (brackets.known < wanted)).nonzero().flatten()
    if not searched.shape[0]:
        return brackets
    rest = G[:, searched].clone()
    rest[:count] = 0
    slack = RELATION_ROUNDINGS * torch.finfo(dtype).eps * pairs.largest + pairs.deflation
    found = _Search(pairs, rest, leak[searched], wanted[searched], slack, right_space, floor).run()
    return Brackets(brackets.lower, brackets.known, brackets.rest.index_copy(0, searched, found))


class _Search:
    """Branch and bound over t for the supremum of (2), all vectors at once."""

    def __init__(
        self,
        pairs: RitzPairs,
        G: Float[Tensor, "n k"],
        leak: Float[Tensor, " k"],
        wanted: Float[Tensor, " k"],
        slack: float,
        right_space: bool,
        floor: float,
    ) -> None:
        self.values, self.coupling = pairs.values, pairs.coupling
        self.G, self.leak, self.wanted = G, leak, wanted
        self.right_space, self.slack, self.floor = right_space, slack, floor
        # Products of coupling entries, so that `_mass` is two matrix products over all points at once.
        C = self.coupling
        self.coupling_pairs = (C[:, None, :] * C[None, :, :]).flatten(0, 1).mH
        self.coupling_G = (C.mH[:, :, None] * G[:, None, :]).flatten(1, 2)

    def run(self) -> Float[Tensor, " k"]:
        """Upper bounds below `wanted`, or infinity where the space does not prove one."""
        best = torch.zeros_like(self.wanted)
        lows, highs = self._first_intervals()
        # Most calls come before the space proves anything, and some point in a handful tells so.
        stride = max(lows.shape[0] // PROBES, 1)
        failed = (self._bounds(lows[::stride], highs[::stride], 0, pointwise=True) >= self.wanted).any(dim=0)
        if bool(failed.all()):
            return torch.full_like(best, float("inf"))
        for depth in range(LARGEST_DEPTH):
            bound = self._bounds(lows, highs, depth)
            open_here = (bound >= self.wanted) & ~failed
            if depth == LARGEST_DEPTH - 1:
                failed |= open_here.any(dim=0)
            accepted = torch.where(open_here, torch.zeros_like(bound), bound)
            best = torch.maximum(best, accepted.max(dim=0).values)
            again = open_here.any(dim=1)
            if not bool(again.any()):
                break
            lows, highs = lows[again], highs[again]
            if depth % 4 == 0:  # no interval around a point that itself exceeds the target can ever pass
                failed |= (self._bounds(lows, highs, depth, pointwise=True) >= self.wanted).any(dim=0)
                if bool(failed.all()):
                    break
            middles = (lows + highs) / 2
            lows, highs = torch.cat([lows, middles]), torch.cat([middles, highs])
        return torch.where(failed, torch.full_like(best, float("inf")), best)

    def _first_intervals(self) -> tuple[Tensor, Tensor]:
        """Ritz values and their midpoints cut the axis from 0 to beyond the largest eigenvalue."""
        top = self.values[0] + self.slack + torch.linalg.vector_norm(self.coupling[:, 0])
        inner = self.values[self.values > self.floor]
        ends = inner.new_tensor([self.floor])
        cuts = torch.cat([inner, (inner[:-1] + inner[1:]) / 2, ends, top[None]])
        if self.right_space and inner.shape[0]:  # the division by t asks for intervals of constant ratio near the floor
            halvings = inner[-1] * 0.5 ** torch.arange(1, 8, device=cuts.device)
            cuts = torch.cat([cuts, halvings[halvings > self.floor]])
        cuts = torch.unique(cuts)
        return cuts[:-1], cuts[1:]

    def _bounds(self, lows: Tensor, highs: Tensor, depth: int, pointwise: bool = False) -> Float[Tensor, "m k"]:
        """Bound on |<u, y>| over each interval (or at its middle alone)."""
        centres = (lows + highs) / 2
        halfwidths = torch.zeros_like(lows) if pointwise else (highs - lows) / 2
        reach = halfwidths + self.slack
        alpha = (4.0 * 2.0**depth) * reach**2
        value = self._mass(centres, reach, alpha).clamp_min(0).sqrt()
        if self.right_space:
            value = value / (centres if pointwise else lows).clamp_min(1e-300).sqrt()[:, None]
        return value + self.leak

    def _mass(self, centres: Tensor, reach: Tensor, alpha: Tensor) -> Float[Tensor, "m k"]:
        """The right-hand side of (2), by the Woodbury identity in the Ritz basis:

        (alpha + h^2) [ g^H D^-1 g + w^H (1 + C D^-1 C^H)^-1 w / alpha ],
        D = (theta - c)^2 + alpha,  w = C ((theta - c) / D) g,  C the coupling of the Ritz vectors.
        """
        offset = self.values[None, :] - centres[:, None]
        inverse = 1 / (offset**2 + alpha[:, None])
        diagonal = inverse @ self.G**2
        width = self.coupling.shape[0]
        W = ((offset * inverse) @ self.coupling_G).unflatten(1, (width, self.G.shape[1]))
        core = (inverse @ self.coupling_pairs).unflatten(1, (width, width))
        core = core + torch.eye(width, dtype=core.dtype, device=core.device)
        half = torch.linalg.solve_triangular(torch.linalg.cholesky(core), W, upper=False)
        return (alpha + reach**2)[:, None] * (diagonal + (half**2).sum(dim=1) / alpha[:, None])
