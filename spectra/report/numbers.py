"""Numbers as a reader wants them: few digits, a sign where it matters, units that fit."""

import math

MINUS = "\N{MINUS SIGN}"


def absent(value: object) -> bool:
    """True for None, NaN and pandas' missing value."""
    return (
        value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)
    )


def count(value: float) -> str:
    """An integer with thousands separators."""
    return _minus(f"{int(value):,}")


def decimal(value: float, digits: int = 3) -> str:
    """A number with a fixed number of decimals."""
    return _minus(f"{value:.{digits}f}")


def signed(value: float, digits: int = 3) -> str:
    """A difference: always with its sign, except zero."""
    text = f"{value:+.{digits}f}"
    return _minus(text) if float(text) else f"{0:.{digits}f}"


def compact(value: float, digits: int = 3) -> str:
    """A number of unknown size at `digits` significant digits; powers of ten only where they save reading."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e-4 <= abs(value) < 1e6:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return _minus(f"{value:,.{decimals}f}")
    return _minus(f"{value:.{digits - 1}e}".replace("e-0", "e-").replace("e+0", "e"))


def exact(value: float) -> str:
    """A setting as it was given: the shortest text that reads back as the same number; 3e-4 for small ones."""
    text = repr(value) if isinstance(value, int) else f"{value:.12g}"
    if 0 < abs(value) < 0.01:
        digits, power = f"{value:.11e}".split("e")
        text = f"{digits.rstrip('0').rstrip('.')}e{int(power)}"
    return _minus(text)


def interval(low: float, high: float, digits: int = 3) -> str:
    """Two ends of an interval, signed because forgetting is a difference."""
    return f"[{signed(low, digits)},\N{NO-BREAK SPACE}{signed(high, digits)}]"


def percent(share: float) -> str:
    """A share of one as a percentage: one decimal, and never 0.0 % or 100.0 % for what is not exactly so."""
    if 0 < share < 0.0005:
        return "<0.1 %"
    if 0.9995 <= share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"


def data_size(size: float) -> str:
    """Bytes with a binary unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{compact(size)} {unit}"
        size /= 1024
    return f"{compact(size)} TiB"


def duration(seconds: float) -> str:
    """Seconds as seconds, minutes or hours."""
    if seconds < 120:
        return f"{compact(seconds)} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def _minus(text: str) -> str:
    """A real minus sign, which screen readers read aloud and which does not break lines."""
    return text.replace("-", MINUS)
