"""What the options of an intervention are made of: lists of factors, and of controls."""

from typing import Any

import click

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
