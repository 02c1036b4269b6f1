"""Numbers as a reader wants them: few digits, a sign where it matters, units that fit.

Every function takes whatever a table holds: Python's and NumPy's integers and floats.
"""

import math
import re
from typing import SupportsFloat

MINUS = "\N{MINUS SIGN}"


def absent(value: object) -> bool:
    """True for None, NaN and pandas' missing value."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def count(value: SupportsFloat) -> str:
    """An integer with thousands separators."""
    return _minus(f"{int(float(value)):,}")


def mean_count(value: SupportsFloat) -> str:
    """A mean of counts: whole where it is whole, one decimal otherwise."""
    number = round(float(value), 1)
    return count(number) if number.is_integer() else _minus(f"{number:,.1f}")


def decimal(value: SupportsFloat, digits: int = 3) -> str:
    """A number with a fixed number of decimals."""
    return _minus(f"{float(value):.{digits}f}")


def signed(value: SupportsFloat, digits: int = 3) -> str:
    """A difference: always with its sign, except zero."""
    text = f"{float(value):+.{digits}f}"
    return _minus(text) if float(text) else f"{0:.{digits}f}"


def compact(value: SupportsFloat, digits: int = 3) -> str:
    """A number of unknown size at `digits` significant digits; powers of ten only where they save reading."""
    number = float(value)
    if number == 0 or not math.isfinite(number):
        return f"{number:g}"
    if 1e-4 <= abs(number) < 1e6:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(number))))
        return _minus(f"{number:,.{decimals}f}")
    mantissa, power = f"{number:.{digits - 1}e}".split("e")
    return _minus(f"{mantissa}e{int(power)}")


def exact(value: SupportsFloat) -> str:
    """A setting as it was given: the shortest text that reads back as the same number; 3e-4 for small ones."""
    number = float(value)
    text = f"{number:.12g}"
    if 0 < abs(number) < 0.01:
        mantissa, power = f"{number:.11e}".split("e")
        text = f"{mantissa.rstrip('0').rstrip('.')}e{int(power)}"
    return _minus(text)


def interval(low: SupportsFloat | None, high: SupportsFloat | None, digits: int = 3) -> str:
    """Two ends of an interval, signed because forgetting is a difference; an end may be missing or infinite."""
    known = [None if end is None or absent(end) or math.isinf(float(end)) else float(end) for end in (low, high)]
    if known == [None, None]:
        return "(no interval)"
    ends = ["unbounded" if end is None else signed(end, digits) for end in known]
    return f"[{ends[0]},\N{NO-BREAK SPACE}{ends[1]}]"


def ends(low: str, high: str) -> str:
    """The two ends of a range as they are written; one where they read the same."""
    return low if low == high else f"{low} to {high}"


def percent(share: SupportsFloat) -> str:
    """A share of one as a percentage: one decimal, and never 0.0 % or 100.0 % for what is not exactly so."""
    number = float(share)
    if 0 < number < 0.0005:
        return "<0.1 %"
    if 0.9995 <= number < 1:
        return ">99.9 %"
    return _minus(f"{100 * number:.1f} %")


def parameters(value: SupportsFloat) -> str:
    """A number of weights: in full where it is small, in millions otherwise."""
    number = float(value)
    return count(number) if number < 100_000 else f"{compact(number / 1e6)} M"


def data_size(size: SupportsFloat) -> str:
    """Bytes with a binary unit."""
    number = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1024:
            return f"{compact(number)} {unit}"
        number /= 1024
    return f"{compact(number)} TiB"


def duration(seconds: SupportsFloat) -> str:
    """Seconds as seconds, minutes or hours."""
    number = float(seconds)
    if number < 120:
        return f"{compact(number)} s"
    if number < 7200:
        return f"{number / 60:.1f} min"
    return f"{number / 3600:.1f} h"


def written(text: object) -> str:
    """A sentence with real minus signs before its numbers."""
    return re.sub(r"(?<![\w.-])-(?=\.?\d)", MINUS, str(text))


def _minus(text: str) -> str:
    """A real minus sign, which screen readers read aloud and which does not break lines."""
    return text.replace("-", MINUS)
