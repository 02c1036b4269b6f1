"""A real encoder and two real full fine-tunings of it, made by others: long full fine-tuning has intruders."""

import numpy as np
import pytest
import torch

import spectra
from spectra import Selection
from spectra.assets import fetched
from spectra.weights import open_pair
from tests import reference

ASSET = "rxnfp-bert"
K, EPSILON = 10, 0.5


@pytest.mark.assets
@pytest.mark.parametrize(("tuned", "relative_norm"), [("bert_ft", 0.224), ("bert_ft_10k_25s", 0.080)])
def test_a_real_fine_tuning_has_the_intruders_of_the_definition(tuned: str, relative_norm: float) -> None:
    folder = fetched(ASSET)
    if folder is None:
        pytest.skip(f"asset {ASSET} is not in the cache")
    base, checkpoint = folder / "bert_pretrained", folder / tuned
    pair = open_pair(base, checkpoint, Selection(allow_pickle=True))
    expected, relative = 0, []
    for matrix in pair.matrices:
        W0, W = matrix.W0.load(torch.float64).numpy(), matrix.W_tuned(torch.float64).numpy()
        expected += int((reference.largest_cosines(W0, W, K) < EPSILON).sum())
        relative.append(np.linalg.norm(W - W0) / np.linalg.norm(W0))
    scan = spectra.intruders(
        checkpoint, base=str(base), k=K, epsilons=(EPSILON,), selection=Selection(allow_pickle=True)
    )
    assert len(pair.matrices) == 72 and expected > 0
    assert scan.count == expected
    # The mean over the matrices, to the three digits that it was noted with.
    assert np.mean(relative) == pytest.approx(relative_norm, abs=5e-4)
