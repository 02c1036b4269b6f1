"""All singular values of a matrix, or an estimate of how they are distributed from a few products.

A sum over the spectrum, sum_i f(s_i), is the trace of f(sqrt(H)) for the smaller Gram operator H. With random vectors x
orthogonal to the known leading eigenvectors,  E x^H f x = trace of the rest,  and block Lanczos from the x gives each
x^H f x by Gauss quadrature at the Ritz values. So every Ritz value stands for a (fractional) number of singular values.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import SpectrumError
from spectra.linalg.krylov import BlockLanczos, gram_together
from spectra.linalg.operators import LinearOperator
from spectra.linalg.placement import for_svd, numbers

PROBES = 8
STEPS = 12


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values and how many each stands for.

    Attributes:
        values: Decreasing, float64.
        weights: One row per probe: how many singular values each entry stands for, as that probe sees it. A single
            row of ones where every value is known.
        is_exact: True when every singular value is known.
    """

    values: Float[Tensor, " l"]
    weights: Float[Tensor, "probes l"]
    is_exact: bool

    @classmethod
    def known(cls, S: Float[Tensor, " n"]) -> "Spectrum":
        """The spectrum of known singular values, decreasing."""
        S = numbers(S)
        return cls(S, torch.ones_like(S)[None], True)

    def measure(self, of: Callable[[Tensor, Tensor | None], float]) -> tuple[float, float | None]:
        """A number of the spectrum and its standard error (None when it is exact).

        Args:
            of: Takes decreasing values and their weights (None: all ones).

        Returns:
            The number from the mean weights; the standard error is the spread of the single probes over sqrt(probes).
        """
        if self.is_exact:
            return of(self.values, None), None
        each = torch.tensor([of(self.values, weights) for weights in self.weights], dtype=torch.float64)
        return of(self.values, self.weights.mean(dim=0)), float(each.std() / each.shape[0] ** 0.5)


def exact_spectrum(W: LinearOperator) -> Spectrum:
    """All singular values, without vectors.  Cost O(d_out d_in n).

    Raises:
        SpectrumError: If LAPACK does not converge.

    Source: Golub & Van Loan, Matrix Computations, 4th ed., section 8.6. Difference: none.
    """
    try:
        return Spectrum.known(torch.linalg.svdvals(for_svd(W.dense())))
    except torch.linalg.LinAlgError as error:
        raise SpectrumError(f"The SVD of a {W.shape} matrix did not converge. Retry with --dtype float64.") from error


def estimated_spectrum(
    W: LinearOperator,
    leading: Float[Tensor, "d l"] | None = None,
    values: Float[Tensor, " l"] | None = None,
    *,
    probes: int = PROBES,
    steps: int = STEPS,
    seed: int = 0,
) -> Spectrum:
    """The distribution of the singular values of W, from `steps` products with a block of `probes` random vectors.

    Args:
        W: The matrix.
        leading: Known leading eigenvectors of the smaller Gram operator: taken out exactly, so that the few values
            that weigh most are not estimated.
        values: Their singular values; given exactly when `leading` is.
        probes: Random vectors; the error of a smooth sum falls like 1 / sqrt(probes n).
        steps: Block Lanczos steps: the quadrature is exact for polynomials of degree 2 steps - 1 in s^2.
        seed: Of the random vectors.

    Returns:
        Weights that add up to min(d_out, d_in) for every probe.

    Source: stochastic Lanczos quadrature: Ubaru, Chen & Saad 2017, "Fast estimation of tr(f(A))"; Golub & Meurant 2010,
        ch. 11.
        Difference: one block for all probes, known leading vectors deflated, each probe's weights scaled to the exact
        number of remaining values. Ritz values near zero smear a cliff there: a small singular value is not resolved.
    Cost: 2 steps products with `probes` columns.
    """
    d = min(W.shape)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(d, probes, generator=generator).to(device=W.device, dtype=W.dtype)
    run = BlockLanczos(start, leading)
    for _ in range(steps):
        if not run.pending.shape[1]:
            break
        [product] = gram_together(W, [None], [run.pending])
        run.advance(product)
    known = numbers(values) if values is not None else torch.zeros(0, dtype=torch.float64)
    if not run.products:  # the known vectors span the whole space
        return Spectrum.known(known)
    pairs = run.ritz()
    first = run.start_coordinates.double()
    masses = (first.mH @ pairs.vectors[: first.shape[0]]) ** 2
    masses = masses * ((d - known.shape[0]) / masses.sum(dim=1, keepdim=True).clamp_min(1e-300))
    found = torch.cat([known, pairs.values.clamp_min(0).sqrt()])
    weights = torch.cat([masses.new_ones(probes, known.shape[0]), masses], dim=1)
    order = found.argsort(descending=True, stable=True)
    return Spectrum(found[order], weights[:, order], False)
