"""The critical scale of one trained update: predicted from the spectrum of W0, and measured by the scan itself."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.advice.ranks import all_values
from spectra.advice.records import CriticalScale
from spectra.engine.tuned import Tuned
from spectra.linalg.operators import Dense, LowRankUpdate
from spectra.linalg.secular import directions_in_basis
from spectra.metrics.safe_size import safe_size
from spectra.metrics.thresholds import critical_sizes, random_critical_sizes
from spectra.scanning.facts import BaseFacts, PairFacts, cosine_bounds

SEARCHED_BELOW, SEARCHED_BEYOND = 0.3, 4.0  # range of the measured search, around the predictions
RATIO, HALVINGS = 1.05, 5  # its steps, and how often the step with the crossing is halved
OWN = 10  # leading singular directions of an update that are predicted one by one


def critical_scale(facts: PairFacts, *, draws: int, seed: int, measure: bool, own: bool = True) -> CriticalScale | None:
    """The multiples of delta_W at which the first intruder is predicted, and where it is found.

    Args:
        facts: What is known of the matrix.
        draws: Random directions behind the prediction.
        seed: Of the draws.
        own: Also predict for the update's own leading directions, where the thin SVD of W0 is at hand or cheap.
        measure: Also scan W0 + multiple * delta_W, where the thin SVD of W0 is at hand or cheap.

    Returns:
        None for an update of zero, or one whose leading singular values lie too close to be told apart.
    """
    delta = facts.delta_svd
    if delta is None or not delta.S.shape[0] or float(delta.S[0]) <= 0:
        return None
    exact = has_vectors(facts.base)
    largest = float(delta.S[0])
    sizes = predicted_sizes(facts.base, draws=draws, seed=seed) / largest
    low, predicted, high = (float(torch.quantile(sizes, q, interpolation="nearest")) for q in (0.1, 0.5, 0.9))
    of_its_own = _own(facts) if exact and own else None
    # A promise needs every singular value of W0, and not an estimate of their distribution.
    safe = _safe(facts.base) / largest if exact else None
    if not (exact and measure):
        return CriticalScale(predicted, low, high, of_its_own, safe=safe)
    reach = [value for value in (low, high, of_its_own) if value is not None]
    measured, searched = _measured(facts, SEARCHED_BELOW * min(reach), SEARCHED_BEYOND * max(reach))
    return CriticalScale(predicted, low, high, of_its_own, measured, searched, safe)


def predicted_sizes(base: BaseFacts, *, draws: int, seed: int) -> Float[Tensor, " draws"]:
    """The spectral norms at which random updates of this W0 make their first intruder, increasing."""
    S0 = base.factors.full().S if has_vectors(base) else all_values(base.spectrum, min(base.W0.shape))
    shape = (base.W0.shape[0], base.W0.shape[1])
    return random_critical_sizes(S0, shape, k=base.k, epsilon=base.settings.epsilon, draws=draws, seed=seed)


def _safe(base: BaseFacts) -> float:
    """The spectral norm below which no update at all makes an intruder."""
    return float(safe_size(base.factors.full().S.cpu(), k=base.k, epsilon=base.settings.epsilon))


def has_vectors(base: BaseFacts) -> bool:
    """True where the thin SVD of W0 is at hand or costs little."""
    return base.is_small or base.factors.has_full()


def _own(facts: PairFacts) -> float | None:
    """The smallest multiple at which one of the update's own directions, alone, makes an intruder."""
    base, delta = facts.base, facts.delta_svd
    if delta is None:
        return None
    leading = delta.leading(OWN)
    full = base.factors.full()
    directions = directions_in_basis(full, leading.U, leading.Vh)
    sizes = critical_sizes(full.S, directions, k=base.k, epsilon=base.settings.epsilon)
    multiples = sizes / leading.S.double().clamp_min(1e-300).cpu()
    smallest = float(multiples.min())
    return smallest if math.isfinite(smallest) else None


def _measured(facts: PairFacts, start: float, stop: float) -> tuple[float | None, float]:
    """Where the count of W0 + multiple * delta_W leaves zero, by the same verdicts as every scan."""
    base = facts.base

    def has_intruder(multiple: float) -> bool:
        [bounds] = cosine_bounds(base, [_scaled(facts, multiple)])
        return bool((bounds.upper < base.settings.epsilon).any())

    found = first_crossing(has_intruder, start, stop)
    return (found if math.isfinite(found) else None), stop


def first_crossing(holds: Callable[[float], bool], start: float, stop: float) -> float:
    """The first value at which a condition holds, by geometric steps of `RATIO` and bisection of the step.

    Args:
        holds: The condition.
        start: First value tried, positive.
        stop: About the last value tried.

    Returns:
        A value at which it holds, good to 0.2 %; just below `start` where it holds there already, inf where it holds
        at no value tried.
    """
    high = start
    while not holds(high):
        if high > stop:
            return math.inf
        high *= RATIO
    low = high / RATIO
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _scaled(facts: PairFacts, multiple: float) -> Tuned:
    """W0 + multiple * delta_W."""
    delta = facts.delta
    if isinstance(delta, LowRankUpdate):
        return Tuned(update=LowRankUpdate(delta.B, delta.A, multiple * delta.scaling))
    return Tuned(W=Dense(facts.base.W0.dense() + multiple * delta.dense()))
