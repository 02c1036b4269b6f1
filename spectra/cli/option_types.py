"""Types of option values beyond click's own: sizes, lists of numbers, factors, controls, ranks, shares, tasks."""

import re
from collections.abc import Hashable
from pathlib import Path
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


CONTROLS = ("shrink", "shrink-all", "random", "random-matched", "neighbour", "stand-in")
MOST_FACTORS = 50


class Lambdas(click.ParamType):  # type: ignore[type-arg] # generic only in the newest versions of click
    """Numbers from 0 to 2 with commas between; "a,b,...,c" goes on from a and b in equal steps to c."""

    name = "lambdas"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """The numbers, increasing."""
        parts = [part.strip() for part in str(value).split(",")]
        try:
            numbers = _expanded(parts)
        except (ValueError, IndexError):
            self.fail(f"'{value}' is no list of factors. Write for instance 0,0.5,1,1.5 or 0,0.25,...,1.5.", param, ctx)
        if outside := [number for number in numbers if not 0 <= number <= 2]:
            self.fail(f"{outside[0]:g} lies outside 0 to 2.", param, ctx)
        return tuple(sorted(set(numbers)))


class Controls(click.ParamType):  # type: ignore[type-arg] # generic only in the newest versions of click
    """The words all and none, or names of controls with commas between."""

    name = "controls"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The names."""
        if value in ("all", "none"):
            return CONTROLS if value == "all" else ()
        names = tuple(part.strip() for part in str(value).split(","))
        if unknown := [name for name in names if name not in CONTROLS]:
            self.fail(f"There is no control '{unknown[0]}'. Choose among {', '.join(CONTROLS)}.", param, ctx)
        return names


def _expanded(parts: list[str]) -> list[float]:
    """The numbers of "a,b,...,c"; without the dots those that stand there."""
    if "..." not in parts:
        return [float(part) for part in parts]
    place = parts.index("...")
    before, after = [float(part) for part in parts[:place]], [float(part) for part in parts[place + 1 :]]
    step, last = before[-1] - before[-2], after[0]
    count = round((last - before[-1]) / step)
    if not 0 < count <= MOST_FACTORS or abs(before[-1] + count * step - last) > 1e-6:
        raise ValueError(f"steps of {step:g} from {before[-1]:g} do not end at {last:g}")
    return [*before, *(round(before[-1] + number * step, 9) for number in range(1, count)), *after]


class Rank(click.ParamType):  # type: ignore[type-arg] # generic only in the newest versions of click
    """The words exact and same, or a positive number."""

    name = "rank"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | int:
        """The word, or the number of a text such as 16."""
        if value in ("exact", "same"):
            return str(value)
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"'{value}' is no rank. Write exact, same or a positive number.", param, ctx)
        return int(value)


class Shard(click.ParamType):  # type: ignore[type-arg] # generic only in the newest versions of click
    """i/n, such as 2/8."""

    name = "i/n"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Two numbers with 1 <= i <= n."""
        part, slash, of = str(value).partition("/")
        if not (slash and part.isdecimal() and of.isdecimal() and 1 <= int(part) <= int(of)):
            self.fail(f"'{value}' is no share. Write i/n with i from 1 to n, such as 2/8.", param, ctx)
        return int(part), int(of)


class Task(click.ParamType):  # type: ignore[type-arg] # generic only in the newest versions of click
    """TASK[:MEASURE], or fields such as {path: a.csv, text: body, label: stars}, in place or in a .yaml file."""

    name = "task"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """A text as it is, a mapping as its fields."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("{"):
            return self._fields(value, param, ctx)
        if Path(value).suffix in (".yaml", ".yml") and not value.startswith("lm-eval:"):
            try:
                return self._fields(Path(value).read_text(encoding="utf-8"), param, ctx)
            except (OSError, UnicodeDecodeError) as error:
                self.fail(
                    f"'{value}' cannot be read ({error}). Name a YAML file with the fields of a task.", param, ctx
                )
        return value

    def _fields(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        import yaml

        class Strict(yaml.SafeLoader):
            """A field that is written twice would lose its first value without a word."""

            def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
                keys = [key.value for key, _ in node.value]
                if twice := [key for key in keys if keys.count(key) > 1]:
                    raise yaml.YAMLError(f"'{twice[0]}' stands there twice")
                return super().construct_mapping(node, deep)

        try:
            fields = yaml.load(text, Strict)
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            self.fail(f"The fields of the task are no YAML: {' '.join(str(error).split())}. Correct them.", param, ctx)
        if not isinstance(fields, dict) or not all(isinstance(key, str) for key in fields):
            self.fail("A task is a mapping, such as {path: a.csv, text: body, label: stars}.", param, ctx)
        return fields
