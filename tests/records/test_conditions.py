"""Conditions of continuous integration: what is read, what is refused, and what a missing figure means."""

import xml.etree.ElementTree as ET

import pytest

from spectra.errors import DataError
from spectra.records.conditions import Case, Condition, judged, junit_xml

CASE = Case('adapter, <news> & "more"', {"forgetting": 0.03, "intruders": 9.0, "control": 10.0, "norm": None})


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("forgetting > 0.02", True),
        ("forgetting>=0.03", True),
        ("forgetting < 2e-2", False),
        ("intruders > control", False),
        ("control >= intruders", True),
        ("norm > 1", None),
        ("score < 0.5", None),
    ],
)
def test_a_condition_holds_fails_or_cannot_be_judged(text: str, holds: bool | None) -> None:
    (one,) = judged([Condition.parse(text)], [CASE])
    assert one.holds is holds
    assert ("not measured" in one.told) == (holds is None)


@pytest.mark.parametrize(
    "text", ["", "forgetting", "forgetting > ", "forgeting > 1", "forgetting = 1", "forgetting > nan", "forgetting > x",
             "__import__('os') > 1", "forgetting > inf", "1 > forgetting"],
)  # fmt: skip
def test_what_is_no_condition_is_refused_with_the_names(text: str) -> None:
    with pytest.raises(DataError, match="intruders, control, norm, score"):
        Condition.parse(text)


def test_a_figure_that_is_not_a_number_was_not_measured() -> None:
    (one,) = judged([Condition.parse("forgetting > 0")], [Case("x", {"forgetting": float("nan")})])
    assert one.holds is None


def test_junit_tells_failures_from_errors() -> None:
    conditions = [Condition.parse(text) for text in ("forgetting > 0.02", "intruders > control", "norm > 1")]
    root = ET.fromstring(junit_xml(judged(conditions, [CASE])))
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("3", "1", "1")
    first, second, third = root.iter("testcase")
    assert first.get("classname") == CASE.name
    assert [len(first), len(second), len(third)] == [1, 0, 1]
    assert first[0].tag == "failure" and "forgetting = 0.03" in str(first[0].get("message"))
    assert third[0].tag == "error"
