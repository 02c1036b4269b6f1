"""Option types for quantities: sizes of memory, large numbers and lists of numbers."""

import re
from typing import Any

import click

UNITS = {
    "": 1,
    "k": 10**3,
    "m": 10**6,
    "g": 10**9,
    "t": 10**12,
    "ki": 1 << 10,
    "mi": 1 << 20,
    "gi": 1 << 30,
    "ti": 1 << 40,
}


class MemorySize(click.ParamType):  # type: ignore[type-arg] # generic only in the newest versions of click
    """A number of bytes with a unit: 500MB, 4GiB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes of a text such as 4GiB."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", str(value), re.IGNORECASE)
        if match is None:
            self.fail(f"'{value}' is no size. Write for instance 4GiB or 800MB.", param, ctx)
        return int(float(match[1]) * UNITS[(match[2] or "").lower()])


class LargeNumber(click.ParamType):  # type: ignore[type-arg] # as above
    """A positive whole number with a unit: 10M, 500k, 1.5B."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of a text such as 10M."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmb])?\s*", str(value), re.IGNORECASE)
        if match is None:
            self.fail(f"'{value}' is no number. Write for instance 10M or 500k.", param, ctx)
        return int(float(match[1]) * {"": 1, "k": 10**3, "m": 10**6, "b": 10**9}[(match[2] or "").lower()])


class Numbers(click.ParamType):  # type: ignore[type-arg] # generic only in the newest versions of click
    """Comma-separated numbers: 0.1,0.3,0.7."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """The numbers of a text such as 0.1,0.3."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(",") if part.strip())
        except ValueError:
            self.fail(f"'{value}' is no list of numbers. Write for instance 0.1,0.3,0.7.", param, ctx)
