"""Tables as compact JSON: column by column, repetition stored once, numbers at a stated number of digits."""

import json
from itertools import groupby
from typing import TYPE_CHECKING, Any

from spectra.report.tables import numbers

if TYPE_CHECKING:
    import pandas as pd

DIGITS = 6
LONGEST_CYCLE = 256


def packed(table: "pd.DataFrame", digits: int = DIGITS) -> dict[str, Any]:
    """The table as {"rows": n, "columns": {name: column}}; a missing value becomes null. `page.js` unpacks it.

    A column is its list of values, or the shortest of {"runs": [value, length, ...]}, {"cycle": [one period]} and
    {"words": [distinct], "at": [positions]}.

    Args:
        table: What to pack.
        digits: Significant digits that are kept of a number.
    """
    return {"rows": len(table), "columns": {str(name): _column(table[name], digits) for name in table.columns}}


def _column(values: "pd.Series[Any]", digits: int) -> list[Any] | dict[str, Any]:
    cells = [_cell(value, digits) for value in values]
    runs = [(cell, len(list(run))) for cell, run in groupby(cells)]
    if 3 * len(runs) < len(cells):
        return {"runs": [part for run in runs for part in run]}
    if (period := _period(cells)) is not None:
        return {"cycle": cells[:period]}
    if not any(isinstance(cell, str) for cell in cells):
        return cells
    words = list(dict.fromkeys(cells))
    position = {word: index for index, word in enumerate(words)}
    return {"words": words, "at": [position[cell] for cell in cells]}


def _period(cells: list[Any]) -> int | None:
    """The length of the block that the column repeats from beginning to end, if it does at least twice."""
    for period in range(1, min(LONGEST_CYCLE, len(cells) // 2) + 1):
        if len(cells) % period == 0 and cells[period:] == cells[:-period]:
            return period
    return None


def _cell(value: Any, digits: int) -> Any:
    if numbers.absent(value):
        return None
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        short = float(f"{value:.{digits}g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 else short
    return value if isinstance(value, (bool, int)) else str(value)


def script_json(value: Any) -> str:
    """JSON that can stand inside a <script> element: no character that could end it or open a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
