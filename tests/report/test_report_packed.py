import json
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spectra.report.tables.packed import packed, script_json


def unpacked(column: Any, rows: int) -> list[Any]:
    """The rule that page.js follows, written again."""
    if isinstance(column, list):
        return column
    if "words" in column:
        return [column["words"][at] for at in column["at"]]
    if "cycle" in column:
        return [column["cycle"][row % len(column["cycle"])] for row in range(rows)]
    flat = column["runs"]
    return [value for value, length in zip(flat[::2], flat[1::2], strict=True) for _ in range(length)]


VALUES = st.one_of(st.none(), st.integers(-5, 5), st.sampled_from(["a", "b", "<script>"]))


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES, max_size=40), st.integers(1, 4), st.integers(1, 6))
def test_packing_loses_nothing(values: list[Any], times: int, each: int) -> None:
    cells = [value for value in values for _ in range(each)] * times
    result = packed(pd.DataFrame({"x": pd.Series(cells, dtype="object")}))
    assert unpacked(json.loads(json.dumps(result["columns"]["x"])), result["rows"]) == cells


def test_a_grid_of_cosines_is_stored_without_its_indices() -> None:
    grid = [(name, i, j) for name in ("first", "second") for i in range(20) for j in range(20)]
    columns = packed(pd.DataFrame(grid, columns=["name", "i", "j"]))["columns"]
    assert columns["j"] == {"cycle": list(range(20))}
    assert columns["name"] == {"runs": ["first", 400, "second", 400]}
    assert columns["i"]["runs"][:4] == [0, 20, 1, 20]


def test_numbers_keep_the_digits_that_were_asked_for() -> None:
    table = pd.DataFrame({"x": [0.123456789, 2.0, float("nan"), 1e-9]})
    assert packed(table, digits=3)["columns"]["x"] == [0.123, 2, None, 1e-9]
    assert packed(table)["columns"]["x"][0] == 0.123457


@pytest.mark.parametrize("text", ["</script><script>alert(1)</script>", "<!--", "]]>", "a & b", "\u2028"])
def test_no_text_can_end_the_script_element(text: str) -> None:
    written = script_json({"x": text})
    assert not set("<>&\u2028\u2029") & set(written)
    assert json.loads(written) == {"x": text}
