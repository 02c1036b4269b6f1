import math

import pytest

from spectra.advice.critical import first_crossing


def test_the_first_crossing_is_found_although_the_condition_fails_again_later() -> None:
    assert first_crossing(lambda value: 2 < value < 3 or value > 8, 0.1, 20.0) == pytest.approx(2.0, rel=2e-3)
    assert first_crossing(lambda value: value > 50, 0.1, 20.0) == math.inf
