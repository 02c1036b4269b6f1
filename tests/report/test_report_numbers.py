import math

import pytest

from spectra.report.tables import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.0123456, "0.0123"), (-12.345, "−12.3"), (1234.5, "1,234"), (3.2e-7, "3.20e−7"), (2.5e9, "2.50e9")],
)
def test_a_compact_number_has_three_significant_digits(value: float, text: str) -> None:
    assert numbers.compact(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(3e-4, "3e−4"), (0.0024, "2.4e−3"), (0.5, "0.5"), (1.9e-05, "1.9e−5"), (10.0, "10")]
)
def test_a_setting_reads_back_as_the_same_number(value: float, text: str) -> None:
    assert numbers.exact(value) == text
    assert float(numbers.exact(value).replace(numbers.MINUS, "-")) == value


def test_a_difference_has_a_sign_unless_it_is_zero() -> None:
    assert numbers.signed(0.0123) == "+0.012"
    assert numbers.signed(-0.0123) == "−0.012"
    assert numbers.signed(-0.00001) == "0.000"


def test_an_interval_does_not_break_across_lines() -> None:
    assert numbers.interval(-0.01, 0.02) == "[−0.010,\N{NO-BREAK SPACE}+0.020]"


def test_a_share_is_never_rounded_to_none_or_all() -> None:
    assert numbers.percent(0.0) == "0.0 %"
    assert numbers.percent(1e-6) == "<0.1 %"
    assert numbers.percent(0.99999) == ">99.9 %"
    assert numbers.percent(1.0) == "100.0 %"


def test_sizes_and_durations_have_units() -> None:
    assert numbers.data_size(181_600_000) == "173 MiB"
    assert numbers.duration(88) == "88.0 s"
    assert numbers.duration(600) == "10.0 min"
    assert numbers.duration(36000) == "10.0 h"


def test_missing_values_of_every_kind_are_absent() -> None:
    import pandas as pd

    assert all(numbers.absent(value) for value in (None, math.nan, pd.NA, pd.NaT))
    assert not any(numbers.absent(value) for value in (0, 0.0, "", False))
