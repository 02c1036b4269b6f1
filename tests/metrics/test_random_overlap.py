import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra.metrics.random_overlap import expected_overlap, random_overlaps


def test_two_random_lines_in_the_plane_have_half_their_energy_in_common_on_average() -> None:
    assert expected_overlap(2, 1, 1) == 0.5
    assert np.mean(random_overlaps(2, 1, 1, draws=2000)) == pytest.approx(0.5, abs=0.03)  # three standard errors


@settings(max_examples=15)
@given(d=st.integers(4, 40), i=st.integers(1, 4), j=st.integers(1, 4), seed=st.integers(0, 9))
def test_draws_scatter_around_the_expectation_whichever_subspace_comes_first(d: int, i: int, j: int, seed: int) -> None:
    drawn = random_overlaps(d, i, j, 400, seed)
    assert drawn == random_overlaps(d, j, i, 400, seed)
    assert list(drawn) == sorted(drawn)
    assert 0 <= drawn[0] <= drawn[-1] <= 1 + 1e-9
    # Four standard errors of 400 draws.
    assert np.mean(drawn) == pytest.approx(expected_overlap(d, i, j), abs=4 * np.std(drawn) / 20 + 1e-9)


def test_a_subspace_that_is_the_whole_space_holds_everything() -> None:
    assert random_overlaps(3, 3, 2, 5) == pytest.approx((1.0,) * 5)
    assert expected_overlap(3, 3, 2) == 1.0
