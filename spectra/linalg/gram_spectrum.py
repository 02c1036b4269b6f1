"""Bounds on every |<u_i, y>| of a small matrix from all eigenpairs of its Gram matrix, in working precision.

On a matrix of a few hundred columns a Krylov space is no smaller than the problem. The symmetric eigenproblem of the
smaller Gram matrix H = W0 W0^H (or W0^H W0) costs a quarter of a thin SVD, but squares the singular values: the
eigenvectors of neighbours at the lower end are off. How far is known: with  H q_j = theta_j q_j + r_j,  ||r_j|| <= s,
and a unit eigenvector u of H with eigenvalue lambda, multiplying by u^H gives for every j

    (lambda - theta_j) <u, q_j> = <u, r_j>,        so        |<u, q_j>| <= s / |lambda - theta_j|.          (1)

By Weyl every theta_i has its lambda_i within s. So for y with coordinates g_j = <q_j, y>, by Cauchy-Schwarz,

    | |<u_i, y>| - |g_i| c_i |  <=  s sqrt( sum_{j != i} g_j^2 / (|theta_i - theta_j| - s)^2 ),             (2)

with sqrt(1 - s^2 / (gap_i - s)^2) <= c_i <= 1. Where the gap is too small to tell u_i from its neighbours, their mass
is pooled, as in `certificate`:  |<u_i, y>|^2 <= (alpha + 4 s^2) sum_j g_j^2 / ((theta_i - theta_j)^2 + alpha).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from spectra.linalg.angles import RELATION_ROUNDINGS, angle_bounds, image_angle_bounds, nearest_distance
from spectra.linalg.brackets import Brackets
from spectra.linalg.completeness import Count
from spectra.linalg.krylov import RitzPairs
from spectra.linalg.operators import LinearOperator
from spectra.linalg.placement import for_eigenpairs, numbers
from spectra.linalg.svd import require_finite
from spectra.linalg.threads import one_thread
from spectra.linalg.triplets import CLUSTER_ROUNDINGS, WARM_SHARE, LeadingVectors, leading_vectors

# Allowance for the rounding of the Gram matrix and for the joint action of the residuals, in roundings of the largest
# eigenvalue, on top of the largest residual that was measured.
GRAM_ROUNDINGS = 16.0
# Loss of orthogonality of the computed eigenvectors and rounding of the coordinates, in roundings of ||y||.
BASIS_ROUNDINGS = 32.0
# An eigenvalue nearer than this many s to its neighbour has no vector of its own ...
SEPARATED = 3.0
# ... and shares the mass of what lies within about this many s.
POOLED = 16.0

# Up to this smaller dimension all eigenpairs of the Gram matrix of a trained matrix cost less than the Krylov space
# that avoids them (measured on matrices 192 to 576 wide) ...
LARGEST_SPECTRUM = 640
# ... and up to this one those of a tuned matrix less than a search that knows the leading vectors of W0.
NARROW = 256

# Powers of H in the space where the leading vectors of a changed matrix are sought.
POWERS = 3


@dataclass(frozen=True, eq=False)
class GramSpectrum:
    """All eigenpairs of the smaller Gram matrix of W0, with the size of their error.

    Attributes:
        vectors: Orthonormal columns: left singular vectors of a wide W0, right ones of a tall.
        values: Squared singular values, decreasing, float64.
        slack: s of (1): bound on the residual of every pair and on the error of every value.
    """

    vectors: Float[Tensor, "n n"]
    values: Float[Tensor, " n"]
    slack: float

    def brackets(self, Y: Float[Tensor, "n k"], *, right_space: bool = False) -> Brackets:
        """Brackets of max_i |<u_i, y_j>| over all singular vectors of W0.

        Args:
            Y: The y_j (left space), or W0^H y_j (right space), as columns.
            right_space: True for a tall W0, where <u, y> = <v, W0^H y> / sigma.

        Returns:
            `known` speaks of the u_i that stand apart, `rest` of the others (0 when there are none). `rest` is
            infinite where a singular value cannot be told from zero in right space.

        Source: statements (1)-(2) above; Parlett, The Symmetric Eigenvalue Problem, ch. 11, for the residual bounds.
            Difference: the sum over all other eigenpairs instead of residual / gap times ||y||.
        Cost: O(n^2 k).
        """
        s, values = self.slack, self.values
        G = numbers(self.vectors.mH @ Y)
        rounding = BASIS_ROUNDINGS * torch.finfo(Y.dtype).eps * numbers(torch.linalg.vector_norm(Y, dim=0))
        squares = G**2
        apart, sines = self._separation()
        reach = (values[:, None] - values[None, :]).abs_().sub_(s).fill_diagonal_(float("inf"))
        beside = s * (reach.square_().reciprocal_() @ squares).sqrt() + rounding
        low = G.abs() * (1 - sines[:, None] ** 2).sqrt() - beside
        high = G.abs() + beside
        if right_space:
            low, high = low / (values + s).clamp_min(s).sqrt()[:, None], self._over_sizes(high, torch.ones_like(apart))
        nothing = torch.zeros_like(G[:1])
        lower = torch.cat([low[apart], nothing]).max(dim=0).values.clamp(0, 1)
        known = torch.cat([high[apart], nothing]).max(dim=0).values.clamp(max=1.0)
        pooled = self._pooled(squares, ~apart) + rounding
        if right_space:
            pooled = self._over_sizes(pooled, ~apart)
        return Brackets(lower, known, torch.cat([pooled, nothing]).max(dim=0).values)

    def leading(self, W: LinearOperator, k: int) -> LeadingVectors:
        """The k leading left singular vectors of W, the matrix whose eigenpairs these are.

        An eigenvector q_j is within s / (gap_j - s) of its own by (1), and no eigenvalue is missing, for all are here.

        Args:
            W: The matrix itself: of a tall one the left vectors are the images of the right ones.
            k: Vectors wanted, at most all.

        Returns:
            The vectors; `converged` is False where two leading values lie too close to be told apart here.

        Source: statement (1) above; Davis & Kahan 1970; `angles` for the images.
            Difference: the slack stands for the residual of every pair.
        Cost: half a pass over a tall W, nothing else.
        """
        dtype, n = self.vectors.dtype, self.values.shape[0]
        size = self.slack / (RELATION_ROUNDINGS * torch.finfo(dtype).eps)  # so that every residual is the slack
        pairs = RitzPairs(
            self.values,
            vectors=torch.eye(n, dtype=torch.float64),
            coupling=self.values.new_zeros(1, n),
            largest=float(self.values[0]),
            random=self.values.new_zeros(n, 0),
            dimension=n,
            rounding=torch.full_like(self.values, size),
        )
        angles, U = angle_bounds(pairs, k, dtype), self.vectors[:, :k]
        if W.shape[0] > W.shape[1]:
            angles, image = image_angle_bounds(pairs, angles, dtype), W.matmat(U)
            U = image / torch.linalg.vector_norm(image, dim=0).clamp_min(torch.finfo(dtype).tiny)
        S = self.values.clamp_min(0).sqrt()
        # Told apart whatever the error of the values, by the measure of the exact method.
        equal = 2 * CLUSTER_ROUNDINGS * torch.finfo(dtype).eps * S[0] * S
        apart = nearest_distance(self.values) > equal + 4 * self.slack
        following = self.vectors[:, k : 2 * k]
        count = None if k >= n else Count(float(self.values[k - 1] + self.values[k]) / 2, k)
        converged = bool(apart[:k].all())
        return LeadingVectors(U, S[:k].to(dtype), angles, ~apart[:k], converged, 1, following, count)

    def neighbourhood(self, directions: Float[Tensor, "n p"], leading: int) -> Float[Tensor, "n w"]:
        """Orthonormal basis of a space near which the leading vectors of a changed W0 lie.

        With H' = H + P M P^H, an eigenvector of H' is (lambda - H)^{-1} P z: beside the leading eigenvectors of H, the
        space holds P, H P, ..., H^{m-1} P. Orthogonal to these eigenvectors, H is small against the leading lambda,
        and the series converges fast.

        Args:
            directions: P: where the change of the Gram matrix acts.
            leading: Number of eigenvectors of H.

        Source: Golub & Van Loan, Matrix Computations, 4th ed., section 10.1 (block Krylov spaces).
            Difference: in the eigenbasis a product with H is a scaling of rows.
        Cost: O(n^2 m p).
        """
        tail = self.vectors[:, leading:]
        block = tail.mH @ (directions / torch.linalg.vector_norm(directions, dim=0).clamp_min(1e-30))
        scaling = (self.values[leading:, None] / self.values[leading].clamp_min(1e-300)).to(block)
        powers = [block * scaling**power for power in range(POWERS)]
        beside = torch.linalg.qr(torch.cat(powers, dim=1)).Q
        return torch.cat([self.vectors[:, :leading], tail @ beside], dim=1)

    def counted_with(
        self, own: Float[Tensor, "n r"], image: Float[Tensor, "n r"], S: Float[Tensor, " r"], pairs: RitzPairs, k: int
    ) -> Count | None:
        """The count of the eigenvalues above the middle between Ritz values k and k + 1 of a changed Gram operator.

        H' = H + P M P^H with P = [own, image], M = [[S^2, 1], [1, 0]] (`joint`; own and image are U and Z). Both Schur
        complements of [[H - t, P], [P^H, -M^-1]] give

            #{lambda' > t}  =  #{lambda > t}  +  n_plus(-M^-1 - P^H (H - t)^-1 P)  -  r.

        That is the count of an operator that differs from H' by the error of the eigenpairs and by rounding; so no more
        eigenvalues of H' than that exceed t plus the size of both.

        Args:
            own: U, orthonormal, in the smaller space.
            image: Z.
            S: Singular values of the update.
            pairs: Ritz pairs of H'.
            k: Eigenvalues wanted.

        Source: Haynsworth 1968, "Determination of the inertia of a partitioned Hermitian matrix".
            Difference: none.
        Cost: O(n^2 r).
        """
        values, rank = torch.cat([pairs.values, pairs.values.new_zeros(1)]), S.shape[0]
        if not 1 <= k <= pairs.values.shape[0]:
            return None
        t = float(values[k - 1] + values[k]) / 2
        S = numbers(S)
        size = 2 * float(torch.linalg.matrix_norm(image)) + float(S.square().sum())
        eps = torch.finfo(self.vectors.dtype).eps
        error = self.slack * self.values.shape[0] ** 0.5 + BASIS_ROUNDINGS * eps * size
        if t + error >= float(values[k - 1]) or float((self.values - t).abs().min()) == 0:
            return None
        P = numbers(self.vectors.mH @ torch.cat([own, image], dim=1))
        inverse = torch.zeros(2 * rank, 2 * rank, dtype=torch.float64)
        one = torch.eye(rank, dtype=torch.float64)
        inverse[:rank, rank:], inverse[rank:, :rank], inverse[rank:, rank:] = one, one, -torch.diag(S**2)
        core = -inverse - P.mH @ (P / (self.values - t)[:, None])
        number = int((self.values > t).sum()) + int((torch.linalg.eigvalsh(core) > 0).sum()) - rank
        return Count(t + error, number)

    def _separation(self) -> tuple[Bool[Tensor, " n"], Float[Tensor, " n"]]:
        """Which eigenvalues stand apart from all others, and the sine of the angle their vectors may be off."""
        gap = nearest_distance(self.values)
        sizes = self.values.clamp_min(0).sqrt()
        # Singular values that the exact method would call equal are equal here too.
        cluster = 2 * CLUSTER_ROUNDINGS * torch.finfo(self.vectors.dtype).eps * sizes[0] * sizes
        apart = (gap > SEPARATED * self.slack) & (gap > cluster)
        return apart, (self.slack / (gap - self.slack).clamp_min(self.slack)).clamp(max=1.0)

    def _pooled(self, squares: Float[Tensor, "n k"], which: Bool[Tensor, " n"]) -> Float[Tensor, "m k"]:
        """Bound on |<u_i, y>| for the chosen i, whichever vectors of the neighbourhood they are."""
        alpha = (POOLED * self.slack) ** 2
        weights = (alpha + 4 * self.slack**2) / ((self.values[which, None] - self.values[None, :]) ** 2 + alpha)
        return (weights @ squares).sqrt()

    def _over_sizes(self, bounds: Float[Tensor, "m k"], which: Bool[Tensor, " n"]) -> Float[Tensor, "m k"]:
        """Bounds divided by the least that the singular values can be; infinite where that is zero."""
        sizes = (self.values[which, None] - self.slack).clamp_min(0).sqrt()
        return torch.where(sizes > 0, bounds / sizes, torch.inf)


def small_leading_vectors(W: LinearOperator, k: int, tolerance: float) -> LeadingVectors:
    """The k leading left singular vectors of a small matrix, from all eigenpairs of its Gram matrix.

    Args:
        W: A matrix that fits the memory; it is formed.
        k: Vectors wanted.
        tolerance: Sine of the angle at which a vector counts as found; where the eigenpairs do not reach it, a Krylov
            search goes on from them.

    Raises:
        SpectrumError: If W has a non-finite entry.

    Source: `GramSpectrum.leading`, `triplets.leading_vectors`.
    Cost: that of `gram_spectrum`; for n of a few hundred less than the search alone, whose space is no smaller.
    """
    spectrum = gram_spectrum(W)
    found = spectrum.leading(W, k)
    if found.converged and bool((found.sin_angles <= tolerance).all()):
        return found
    warm = spectrum.vectors[:, : WARM_SHARE * k]
    counter = (lambda *_: found.count) if found.converged else None
    return leading_vectors(W, [None], k, warm=warm, tolerance=tolerance, counter=counter)[0]


def gram_spectrum(W0: LinearOperator) -> GramSpectrum:
    """All eigenpairs of the smaller Gram matrix of W0, in the arithmetic of W0, with measured residuals.

    Args:
        W0: A matrix that fits the memory; it is formed.

    Raises:
        SpectrumError: If W0 has a non-finite entry.

    Source: Golub & Van Loan, Matrix Computations, 4th ed., section 8.3.
        Difference: the residual of every pair is measured rather than assumed; the rounding of the Gram matrix itself
        is taken at its statistical size (`GRAM_ROUNDINGS`), as in `definite`.
    Cost: d_out d_in n for the Gram matrix, about 9 n^3 for its eigenpairs, 2 n^3 for their residuals.
    """
    W = W0.dense()
    require_finite(W)
    gram = W @ W.mH if W.shape[0] <= W.shape[1] else W.mH @ W
    with one_thread():
        try:
            values, vectors = (found.to(gram) for found in torch.linalg.eigh(for_eigenpairs(gram)))
        except torch.linalg.LinAlgError:  # entries so far apart that single precision does not converge
            values, vectors = (found.to(gram) for found in torch.linalg.eigh(gram.cpu().double()))
    rows = vectors.mH  # LAPACK writes the eigenvectors one after the other: this view is contiguous
    largest = max(float(values[-1]), torch.finfo(values.dtype).tiny)
    off = (rows @ gram).addcmul_(rows, values[:, None], value=-1).div_(largest)  # squares of tiny or huge ones are lost
    residual = float(torch.linalg.vector_norm(off, dim=1).max())
    slack = (residual + GRAM_ROUNDINGS * torch.finfo(values.dtype).eps) * largest
    return GramSpectrum(rows.flip(0).mH, numbers(values).flip(0), slack)
