"""The controls: the same kind and size of edit, elsewhere."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spectra.errors import SpectrumError
from spectra.interventions import (
    leading_triplets,
    neighbours,
    norm_matched_shrink,
    random_directions,
    scaled_directions,
    stand_ins,
)
from spectra.linalg.operators import Dense, LowRankUpdate, Updated
from spectra.records import LeadingVector, MatrixScan
from tests.planted import base_matrix, random_update


def norm(update: LowRankUpdate) -> float:
    return float(np.linalg.norm(update.dense().double().numpy()))


def intervention(lam: float, seed: int = 0) -> tuple[torch.Tensor, LowRankUpdate, LowRankUpdate]:
    W0, _ = base_matrix(48, 32, "head and bulk", seed)
    update = random_update(48, 32, rank=3, size=40.0, seed=seed + 1)
    return W0, update, scaled_directions(leading_triplets(Dense(W0), update, 3), (0, 1), lam)


@given(lam=st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.5, 2.0]), seed=st.integers(0, 5))
def test_the_shrink_leaves_the_norm_that_the_intervention_leaves(lam: float, seed: int) -> None:
    _, update, edit = intervention(lam, seed)
    shrunk = update.plus(norm_matched_shrink(update, edit))
    assert norm(shrunk) == pytest.approx(norm(update.plus(edit)), rel=1e-5)
    # It stays a multiple of the update.
    cosine = float((shrunk.dense() * update.dense()).sum()) / (norm(shrunk) * norm(update))
    assert cosine == pytest.approx(1.0, abs=1e-5)


def test_a_zero_update_cannot_be_scaled_to_a_norm() -> None:
    _, update, edit = intervention(0.5)
    with pytest.raises(SpectrumError, match="An update of norm 0"):
        norm_matched_shrink(LowRankUpdate(0 * update.B, update.A), edit)


@pytest.mark.parametrize("lam", [0.0, 0.7, 1.5])
def test_random_directions_change_as_much_energy_in_as_many_directions(lam: float) -> None:
    W0, update, edit = intervention(lam)
    W = Updated(Dense(W0), update)
    control = random_directions(W, edit, seed=3)
    assert control.rank == edit.rank == 2
    assert norm(control) == pytest.approx(norm(edit), rel=1e-5)
    # The edit acts along its own left directions on what W holds there:  edit = c Q Q^H W.
    Q = torch.linalg.qr(control.B)[0]
    projected = Q @ (Q.mH @ W.dense())
    c = norm(control) / float(torch.linalg.matrix_norm(projected))
    torch.testing.assert_close(control.dense(), (-c if lam < 1 else c) * projected, atol=1e-3, rtol=1e-3)


def test_random_directions_are_those_of_the_seed() -> None:
    W0, update, edit = intervention(0.5)
    W = Updated(Dense(W0), update)
    one, same, other = (random_directions(W, edit, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(one.B, same.B)
    assert not torch.allclose(one.B, other.B)


def verdict(index: int, sigma: float, is_intruder: bool) -> LeadingVector:
    return LeadingVector(index, sigma, 0.5, is_intruder, 0.5, 0.5, "full factorisation")


def test_a_neighbour_is_the_pre_trained_vector_of_the_most_similar_value() -> None:
    vectors = [verdict(0, 9.0, False), verdict(1, 8.0, True), verdict(2, 7.5, False), verdict(3, 7.4, True)]
    assert neighbours(vectors, (1,)) == (2,)
    assert neighbours(vectors, (1, 3)) == (2, 0)  # each is used once


def test_too_few_neighbours_are_an_error_and_no_smaller_control() -> None:
    vectors = [verdict(0, 9.0, True), verdict(1, 8.0, True), verdict(2, 7.5, False)]
    with pytest.raises(SpectrumError, match=r"2 directions need .* 1 of the 3 scanned .* Scan with a larger k"):
        neighbours(vectors, (0, 1))


def spectrum(name: str, shape: tuple[int, int], count: int) -> MatrixScan:
    return MatrixScan(name, 0, name, "mlp", shape, vectors=(verdict(0, 1.0, count > 0),))


def test_a_stand_in_has_no_intruders_and_the_same_shape_where_there_is_one() -> None:
    matrices = [
        spectrum("a", (4, 4), 1),
        spectrum("b", (4, 8), 0),
        spectrum("c", (4, 4), 0),
        spectrum("d", (8, 8), 1),
        spectrum("e", (4, 8), 0),
    ]
    for seed in range(5):
        found = stand_ins(matrices, ["a", "d"], seed=seed)
        assert found["a"] == "c"
        assert found["d"] in ("b", "e")
    assert len({stand_ins(matrices, ["d"], seed=seed)["d"] for seed in range(20)}) == 3
    with pytest.raises(SpectrumError, match="4 treated matrices need"):
        stand_ins(matrices, ["a", "b", "c", "d"], seed=0)
