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
from jaxtyping import Bool, Float, Int
from torch import Tensor

from spectra.linalg.angles import RELATION_ROUNDINGS
from spectra.linalg.brackets import Brackets, brackets_from_known
from spectra.linalg.krylov import RitzPairs
from spectra.linalg.threads import one_thread

LARGEST_DEPTH = 16
# Where a vector has most of its mass the bound is largest: it is probed at so many of these Ritz values first.
PROBES = 4


class Certificate:
    """What a Krylov space on W0 proves of max_i |<u_i, y_j>|, by statements (1)-(2)."""

    def __init__(
        self,
        pairs: RitzPairs,
        coordinates: Float[Tensor, "n k"],
        known: Brackets,
        epsilons: Float[Tensor, " e"],
        *,
        dtype: torch.dtype,
        right_space: bool = False,
        floor: float = 0.0,
        margin: Float[Tensor, " k"] | None = None,
    ) -> None:
        """Take the coordinates to the Ritz basis.

        Args:
            pairs: Rayleigh-Ritz data of the space on the smaller Gram operator of W0.
            coordinates: Columns g_j with y_j = Q g_j (left space), or W0^H y_j = Q g_j (right space), after deflation.
            known: What deflated (cached) singular vectors of W0 say about the same y_j.
            epsilons: The thresholds asked for; `rest` is sought below the first one above the lower bound.
            dtype: Arithmetic in which the space was built.
            right_space: True for a tall W0: the space lives on W0^H W0, the eigenvector is the right singular vector
                v = W0^H u / sigma, and  <u, y> = <v, W0^H y> / sigma.  Bounds are divided by sqrt(t), so they say
                nothing near t = 0.
            floor: The supremum is taken over t >= floor only. In right space the caller proves that H has no smaller
                eigenvalue (`definite`); without that, the mass that y has outside the range of W0 (an atom at t = 0
                that belongs to no singular vector of the thin SVD) would count.
            margin: What the caller will add to `rest`: bounds are sought this far below the threshold.
        """
        self.pairs, self.known, self.epsilons = pairs, known, epsilons
        self.right_space, self.floor = right_space, floor
        self.G = pairs.vectors.mH @ coordinates.double()
        self.margin = torch.zeros_like(known.lower) if margin is None else margin
        self.slack = RELATION_ROUNDINGS * torch.finfo(dtype).eps * pairs.largest + pairs.deflation

    @one_thread()
    def brackets(self, atoms: Float[Tensor, " a"], *, whole: bool = False) -> Brackets:
        """Brackets for the y_j as given; the caller widens them by the error of y_j itself.

        Args:
            atoms: Bounds on the sine of the angles of the leading Ritz vectors that each stand for one known singular
                vector of W0, none missing among them.
            whole: Prove nothing by the space where it does not suffice for every y_j.
        """
        found, search, searched = self._begin(atoms)
        if search is None:
            return found
        return Brackets(found.lower, found.known, found.rest.index_copy(0, searched, search.run(whole=whole)))

    @one_thread()
    def is_hopeless(self, atoms: Float[Tensor, " a"]) -> bool:
        """True where some point shows that the space does not suffice for every y_j, whichever of the atoms count."""
        _, search, _ = self._begin(atoms)
        return search is not None and bool(search.fails_at(search.likely_points()).any())

    def needed(self, settled: int) -> int:
        """How many leading Ritz vectors there are up to the last one that some y_j resembles, at least 1."""
        cosines = self.G[:settled].abs() / torch.linalg.vector_norm(self.G, dim=0).clamp_min(1e-300)
        resembled = (cosines**2 > 1 / 2).any(dim=1).nonzero()
        return int(resembled.max()) + 1 if resembled.numel() else 1

    def _begin(self, atoms: Float[Tensor, " a"]) -> "tuple[Brackets, _Search | None, Int[Tensor, ' s']]":
        """What the atoms say, and the search for those y_j that they leave open, with their numbers."""
        G, count = self.G, atoms.shape[0]
        values = self.pairs.values[:count]
        scales = values.clamp_min(0).sqrt() if self.right_space else torch.ones_like(values)
        seen = brackets_from_known(G[:count], torch.linalg.vector_norm(G, dim=0), atoms.clamp(max=1.0), scales)
        found = self.known.with_more_known(seen)
        wanted = found.next_target(self.epsilons) - self.margin
        searched = (found.is_open(self.epsilons) & (found.known < wanted)).nonzero().flatten()
        if not searched.shape[0]:
            return found, None, searched
        # All other singular vectors are orthogonal to the known ones: drop those coordinates, pay for their angles.
        leak = (G[:count].abs() * atoms[:, None]).sum(dim=0)
        rest = G[:, searched].clone()
        rest[:count] = 0
        search = _Search(self.pairs, rest, leak[searched], wanted[searched], self.slack, self.right_space, self.floor)
        return found, search, searched


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
        # Products of coupling entries, so that `_mass` is two matrix products over all points at once: of the entries
        # C_a C_b those with a <= b, and where each pair (a, b) is found among them.
        C, width = self.coupling, self.coupling.shape[0]
        rows, columns = torch.triu_indices(width, width, device=C.device)
        self.coupling_pairs = (C[rows] * C[columns]).mH
        self.place = torch.empty(width, width, dtype=torch.long, device=C.device)
        self.place[rows, columns] = self.place[columns, rows] = torch.arange(rows.shape[0], device=C.device)
        self.coupling_G = (C.mH[:, :, None] * G[:, None, :]).flatten(1, 2)

    def run(self, *, whole: bool) -> Float[Tensor, " k"]:
        """Upper bounds below `wanted`, or infinity where the space does not prove one (anywhere: `whole`)."""
        best, nothing = torch.zeros_like(self.wanted), torch.full_like(self.wanted, float("inf"))
        lows, highs = self._first_intervals()
        failed = self.fails_at(self.likely_points())
        for depth in range(LARGEST_DEPTH):
            if bool(failed.any() if whole else failed.all()):
                return nothing
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
            middles = (lows + highs) / 2
            if depth % 2 == 0:  # no interval around a point that itself exceeds the target can ever pass
                failed |= self.fails_at(middles)
            lows, highs = torch.cat([lows, middles]), torch.cat([middles, highs])
        return torch.where(failed, nothing, nothing if whole and bool(failed.any()) else best)

    def fails_at(self, points: Float[Tensor, " m"]) -> Bool[Tensor, " k"]:
        """True where the bound at one of the points is too large: no interval around it can ever pass."""
        bounds = self._bounds(points, points, 0)
        return ((bounds >= self.wanted) & torch.isfinite(bounds)).any(dim=0)

    def likely_points(self) -> Float[Tensor, " m"]:
        """Where the bounds are large: Ritz values with most mass, and in right space the floor."""
        largest = self.G.abs().topk(min(PROBES, self.G.shape[0]), dim=0).indices.flatten()
        points = self.values[largest].unique()
        points = points[points > self.floor]
        return torch.cat([points, points.new_tensor([self.floor])]) if self.right_space else points

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

    def _bounds(self, lows: Tensor, highs: Tensor, depth: int) -> Float[Tensor, "m k"]:
        """Bound on |<u, y>| over each interval."""
        centres, reach = (lows + highs) / 2, (highs - lows) / 2 + self.slack
        alpha = (4.0 * 2.0**depth) * reach**2
        value = self._mass(centres, reach, alpha).clamp_min(0).sqrt()
        if self.right_space:
            value = value / lows.clamp_min(1e-300).sqrt()[:, None]
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
        core = (inverse @ self.coupling_pairs)[:, self.place]
        core.diagonal(dim1=1, dim2=2).add_(1.0)
        factor, is_indefinite = torch.linalg.cholesky_ex(core)
        half = torch.linalg.solve_triangular(factor, W, upper=False)
        mass = (alpha + reach**2)[:, None] * (diagonal + (half**2).sum(dim=1) / alpha[:, None])
        # At a Ritz value that has settled to rounding the core may have no factor: nothing is known of that point.
        return torch.where(is_indefinite[:, None] > 0, torch.inf, mass)
