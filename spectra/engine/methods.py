"""The methods behind one interface, and the choice among them. All give the same verdicts."""

from collections.abc import Callable, Sequence

from jaxtyping import Float
from torch import Tensor

from spectra.engine.bounds import CosineBounds
from spectra.engine.cached_basis import cached_basis
from spectra.engine.certified import certified
from spectra.engine.exact import exact
from spectra.engine.factors import BaseFactors
from spectra.engine.tuned import Tuned

Method = Callable[[BaseFactors, Sequence[Tuned], int, Float[Tensor, " e"]], list[CosineBounds]]

METHODS: dict[str, Method] = {"exact": exact, "certified": certified, "cached-basis": cached_basis}
AUTO = "auto"
NAMES = (AUTO, *METHODS)

# Krylov methods need room: more columns than this share of the smaller dimension is the whole space anyway.
SMALLEST_SPACE = 8
# One factorisation of W0 pays for itself after about n / ADAPTERS_PER_WIDTH adapters (`scripts/bench_scan.py`).
ADAPTERS_PER_WIDTH = 40


def choose(base: BaseFactors, adapters: int, k: int) -> str:
    """The cheapest method for a matrix: by its size, by what is known of its base, by how many adapters ask.

    Args:
        base: The base matrix and its known factors.
        adapters: Tuned matrices of this call.
        k: Leading vectors asked for.

    Returns:
        A key of `METHODS`.
    """
    n = min(base.W0.shape)
    if n < SMALLEST_SPACE * (k + 6):
        return "exact"
    if base.has_full() or adapters * ADAPTERS_PER_WIDTH > n:
        return "cached-basis"
    return "certified"
