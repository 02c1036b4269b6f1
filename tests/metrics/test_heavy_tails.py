import sys

import pytest
import torch

from spectra.errors import SpectrumError
from spectra.metrics.heavy_tails import power_law


def pareto(alpha: float, n: int, seed: int) -> torch.Tensor:
    """Singular values whose squares follow  p(x) ~ x^-alpha, x >= 1."""
    u = torch.rand(n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return ((1 - u) ** (-1 / (alpha - 1))).sqrt().sort(descending=True).values


@pytest.fixture(autouse=True)
def needs_powerlaw() -> None:
    pytest.importorskip("powerlaw")


@pytest.mark.parametrize("alpha", [2.0, 3.0])
def test_a_planted_exponent_is_found(alpha: float) -> None:
    fit = power_law(pareto(alpha, 800, seed=0))
    # The estimator's standard error is (alpha - 1) / sqrt(points), at most 0.2 here.
    assert fit.alpha == pytest.approx(alpha, abs=4 * (alpha - 1) / fit.points**0.5)
    assert fit.distance < 0.06


def test_the_exponent_follows_its_formula_over_the_tail() -> None:
    S = pareto(2.5, 300, seed=1)
    fit = power_law(S)
    tail = (S**2)[fit.xmin <= S**2]
    assert fit.points == tail.shape[0]
    # powerlaw's own fit is numerical; the closed formula of Clauset et al. is its optimum.
    assert fit.alpha == pytest.approx(1 + fit.points / float((tail / fit.xmin).log().sum()), rel=1e-3)


def test_the_exponent_does_not_depend_on_scale() -> None:
    S = pareto(2.5, 200, seed=2)
    one, other = power_law(S), power_law(4 * S)
    assert other.alpha == pytest.approx(one.alpha, rel=1e-6)
    assert other.xmin == pytest.approx(16 * one.xmin)
    assert other.distance == pytest.approx(one.distance, rel=1e-6)


def test_too_few_values_are_refused_by_number() -> None:
    with pytest.raises(SpectrumError, match="asked of 3 positive singular values, but 16"):
        power_law(torch.tensor([3.0, 2.0, 1.0, 0.0]))


def test_a_missing_package_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "powerlaw", None)
    with pytest.raises(SpectrumError, match=r"needs the package powerlaw.*pip install"):
        power_law(torch.ones(20))
