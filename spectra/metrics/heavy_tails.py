"""The heavy-tail exponent of a spectrum, by the `powerlaw` package, with its goodness of fit."""

import warnings
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from spectra.errors import SpectrumError, needs

FEWEST = 16
# The package's own range ends at 3, where many trained matrices lie above; 1 is the least that can be normalised.
ALPHAS = (1.0, None)


@dataclass(frozen=True)
class PowerLaw:
    """A power law fitted to the tail of the eigenvalues x = S^2.

    Attributes:
        alpha: Exponent of p(x) ~ x^-alpha.
        xmin: Where the tail begins.
        distance: Kolmogorov-Smirnov distance between the fit and the tail; small is good.
        points: Eigenvalues in the tail.
        against_lognormal: Log-likelihood ratio of the power law and a lognormal; below 0 the lognormal fits better.
        p_value: Of that ratio's sign (Vuong); a large one says that the data cannot tell.
    """

    alpha: float
    xmin: float
    distance: float
    points: int
    against_lognormal: float
    p_value: float


def power_law(S: Float[Tensor, " n"]) -> PowerLaw:
    """Fit  p(x) ~ x^-alpha, x >= xmin,  to the eigenvalues x = S^2;  xmin minimises the Kolmogorov-Smirnov distance.

    alpha = 1 + m / sum_i log(x_i / xmin)  over the m values of the tail.

    Args:
        S: All singular values of W0; zeros are left out.

    Raises:
        SpectrumError: If `powerlaw` is missing or fewer than 16 values are positive.

    Source: Clauset, Shalizi & Newman 2009, section 3; Alstott et al. 2014 (the package); as a property of trained
        weights: Martin & Mahoney, arXiv:1810.01075 (WeightWatcher).
        Difference: alpha may exceed 3; no upper cut-off and no removal of outliers ("fingers"), as WeightWatcher's
        default. Cost O(n^2), and a numerical fit for every xmin whose alpha lies above 3.
    """
    try:
        import powerlaw
    except ImportError as error:
        raise SpectrumError(needs("The heavy-tail fit", "powerlaw", "powerlaw")) from error
    values = (S.double() ** 2).cpu().numpy()
    values = values[values > 0]
    if values.shape[0] < FEWEST:
        raise SpectrumError(
            f"A power law was asked of {values.shape[0]} positive singular values, but {FEWEST} are the least. "
            "Leave the group 'tails' out."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # divisions at trial values of xmin; the chosen one is checked by its distance
        fit = powerlaw.Fit(values, verbose=False, parameter_ranges={"alpha": ALPHAS})
        ratio, p_value = fit.distribution_compare("power_law", "lognormal")
        found = fit.power_law
        return PowerLaw(
            alpha=float(found.alpha),
            xmin=float(fit.xmin),
            distance=float(found.D),
            points=int((values >= float(fit.xmin)).sum()),
            against_lognormal=float(ratio),
            p_value=float(p_value),
        )
