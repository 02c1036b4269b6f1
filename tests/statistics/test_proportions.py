"""Score intervals of proportions against their defining equations, and their coverage by exact enumeration."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, multinomial

from spectra.statistics.proportions import paired_proportions, wilson


def losses(b: int, c: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """0/1 losses of which b rise and c fall."""
    first, second = np.zeros(n), np.zeros(n)
    second[:b], first[b : b + c] = 1.0, 1.0
    return first, second


def squared_score(delta: float, b: int, c: int, n: int) -> float:
    """The score statistic with P(1 -> 0) found by maximising the likelihood."""

    def against(q: float) -> float:
        chances = np.array([q + delta, q, 1 - 2 * q - delta])
        return -float(np.sum([k * math.log(max(p, 1e-300)) for k, p in zip((b, c, n - b - c), chances, strict=True)]))

    bounds = (max(0.0, -delta), (1 - delta) / 2)
    q = minimize_scalar(against, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return (b - c - n * delta) ** 2 / (n * (2 * q + delta * (1 - delta)) * n / (n - 1))


@pytest.mark.parametrize(("b", "c", "n"), [(9, 2, 50), (3, 12, 60), (7, 0, 40), (25, 20, 300)])
def test_the_ends_solve_the_score_equation(b: int, c: int, n: int) -> None:
    found = paired_proportions(*losses(b, c, n))
    for end in (found.low, found.high):
        # The maximiser is good to 1e-6 or so where the likelihood is flat.
        assert squared_score(end, b, c, n) == pytest.approx(1.959964**2, rel=1e-3)
    assert found.low < found.value == (b - c) / n < found.high


def test_without_a_change_the_interval_is_that_of_the_rule_and_not_of_no_width() -> None:
    found = paired_proportions(*losses(0, 0, 30))
    z = 1.959964 * math.sqrt(30 / 29)
    assert (found.low, found.high) == pytest.approx((-(z**2) / (30 + z**2), z**2 / (30 + z**2)))
    assert found.finding == "cannot tell"


def test_exchanged_models_have_the_opposite_interval() -> None:
    one, other = paired_proportions(*losses(9, 2, 50)), paired_proportions(*losses(2, 9, 50))
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_a_single_example_knows_nothing() -> None:
    found = paired_proportions(*losses(1, 0, 1))
    assert (found.low, found.high, found.finding) == (-1, 1, "cannot tell")


@pytest.mark.parametrize("n", [20, 100])
@pytest.mark.parametrize(("rise", "fall"), [(0.01, 0.0), (0.12, 0.0), (0.3, 0.0), (0.02, 0.05), (0.1, 0.05)])
def test_the_interval_covers_the_difference_of_paired_proportions(n: int, rise: float, fall: float) -> None:
    """Exact: the chance of every pair of counts, summed where the interval holds the truth."""
    covered = wrong = total = 0.0
    for b in range(n + 1):
        for c in range(n + 1 - b):
            chance = float(multinomial.pmf([b, c, n - b - c], n, [rise, fall, 1 - rise - fall]))
            if chance < 1e-5:
                continue
            found = paired_proportions(*losses(b, c, n))
            total += chance
            covered += chance * (found.low <= rise - fall <= found.high)
            wrong += chance * (found.finding == ("negative" if rise > fall else "positive"))
    assert total > 0.998
    assert covered >= 0.93
    assert wrong <= 0.01


def test_wilsons_interval_is_scipys() -> None:
    expected = binomtest(37, 50).proportion_ci(0.95, method="wilson")
    assert wilson(0.74, 50.0) == pytest.approx((expected.low, expected.high), abs=1e-6)
