"""Agreement with WeightWatcher where the definitions agree; runs where it is installed."""

import pytest
import torch

from spectra.metrics.heavy_tails import power_law
from spectra.metrics.ranks import stable_rank
from tests.planted import base_matrix

weightwatcher = pytest.importorskip("weightwatcher")


def test_stable_rank_spectral_norm_and_exponent_are_those_of_weightwatcher() -> None:
    kinds = ("head and bulk", "power law")
    matrices = [base_matrix(*shape, kind, seed=0)[0] for kind in kinds for shape in ((120, 120), (200, 90), (90, 200))]
    model = torch.nn.Sequential(*(torch.nn.Linear(W.shape[1], W.shape[0], bias=False) for W in matrices))
    for layer, W in zip(model, matrices, strict=True):
        layer.weight.data = W.clone()
    details = weightwatcher.WeightWatcher(model=model).analyze(min_evals=10)
    for (_, row), W in zip(details.iterrows(), matrices, strict=True):
        S = torch.linalg.svdvals(W.double())
        fit = power_law(S)
        assert row["stable_rank"] == pytest.approx(stable_rank(S), rel=1e-4)
        # "spectral_norm" there is the largest eigenvalue of W^T W.
        assert row["spectral_norm"] == pytest.approx(float(S[0]) ** 2, rel=1e-4)
        assert row["xmin"] == pytest.approx(fit.xmin, rel=1e-4)
        assert row["alpha"] == pytest.approx(fit.alpha, rel=1e-3)
        assert row["D"] == pytest.approx(fit.distance, abs=1e-3)
