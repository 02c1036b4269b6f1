import pytest
import torch

from spectra.linalg.density import Spectrum, estimated_spectrum, exact_spectrum
from spectra.linalg.operators import Dense
from spectra.linalg.svd import thin_svd
from spectra.metrics.ranks import effective_rank
from tests.planted import SPECTRA, base_matrix


def test_two_known_values_are_their_own_spectrum() -> None:
    spectrum = exact_spectrum(Dense(torch.diag(torch.tensor([3.0, 4.0]))))
    assert spectrum.values.tolist() == pytest.approx([4.0, 3.0])
    assert spectrum.is_exact
    assert spectrum.measure(lambda S, weights: float(S.sum())) == (pytest.approx(7.0), None)


@pytest.mark.parametrize("shape", [(160, 160), (200, 160), (160, 200)])
@pytest.mark.parametrize("kind", SPECTRA)
def test_smooth_sums_are_estimated_within_their_error(shape: tuple[int, int], kind: str) -> None:
    W, truth = base_matrix(*shape, kind, seed=1)
    spectrum = estimated_spectrum(Dense(W), seed=3)
    for power in (1, 2):

        def total(S: torch.Tensor, weights: torch.Tensor | None, power: int = power) -> float:
            return float(((torch.ones_like(S) if weights is None else weights) * S**power).sum())

        value, error = spectrum.measure(total)
        exact = float((truth.S**power).sum())
        assert error is not None
        # Eight probes: three standard errors are exceeded in a per cent of cases; 1 % covers the quadrature.
        assert abs(value - exact) <= 4 * error + 0.01 * exact


@pytest.mark.parametrize("shape", [(160, 160), (200, 160), (160, 200)])
def test_known_leading_vectors_make_the_estimate_sharper(shape: tuple[int, int]) -> None:
    W, _ = base_matrix(*shape, "head and bulk", seed=2)
    svd = thin_svd(W)
    vectors = svd.U[:, :16] if shape[0] <= shape[1] else svd.Vh[:16].mH
    plain, deflated = estimated_spectrum(Dense(W)), estimated_spectrum(Dense(W), vectors, svd.S[:16])
    assert deflated.values[:16].tolist() == pytest.approx(svd.S[:16].tolist(), rel=1e-5)
    value, error = deflated.measure(effective_rank)
    assert error is not None
    assert abs(value - effective_rank(svd.S)) <= 4 * error + 0.01 * value
    assert error < (plain.measure(effective_rank)[1] or 0.0)


def test_every_probe_counts_every_singular_value() -> None:
    W, _ = base_matrix(60, 90, "power law", seed=0)
    assert torch.allclose(estimated_spectrum(Dense(W)).weights.sum(dim=1), torch.full((8,), 60.0).double())


def test_the_estimate_is_repeated_by_its_seed() -> None:
    W = Dense(base_matrix(60, 60, "flat", seed=0)[0])
    one, same, other = (estimated_spectrum(W, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.weights, same.weights)
    assert not torch.equal(one.weights, other.weights)


def test_a_matrix_that_is_known_whole_leaves_nothing_to_estimate() -> None:
    W, _ = base_matrix(6, 6, "flat", seed=0)
    svd = thin_svd(W)
    assert estimated_spectrum(Dense(W), svd.U, svd.S).is_exact


def test_a_zero_matrix_has_zeros_only() -> None:
    spectrum = estimated_spectrum(Dense(torch.zeros(40, 50)))
    assert float(spectrum.values.max()) == 0.0
    assert isinstance(spectrum, Spectrum)
