"""Options that let a command fail where a condition on its figures holds, for continuous integration."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.destinations import FileDestination
from spectra.cli.options import stacked
from spectra.cli.terminal import echo
from spectra.storage.destinations import JUNIT

if TYPE_CHECKING:
    from spectra.records.conditions import Case, Condition

EXIT_CODE = 3


@dataclass(frozen=True)
class Gate:
    """What was asked for.

    Attributes:
        conditions: Those that must not hold.
        junit: Where their outcome is written as XML; None for nowhere.
    """

    conditions: "tuple[Condition, ...]"
    junit: Path | None

    def __post_init__(self) -> None:
        """Refuse a file for an outcome that there is not."""
        if self.junit is not None and not self.conditions:
            raise click.UsageError("--junit writes the outcome of --fail-if. Add a condition.")

    def needs(self, name: str) -> bool:
        """Whether a condition speaks of a figure."""
        return any(name in condition.names for condition in self.conditions)

    def judge(self, cases: "Iterable[Case]") -> None:
        """Tell which conditions hold, and end with exit code 3 if one does.

        Raises:
            DataError: If a figure that a condition needs was not measured: silence would read as success.
        """
        from spectra.errors import DataError
        from spectra.records.conditions import judged, junit_xml
        from spectra.storage.atomic import write_text

        if not self.conditions:
            return
        judgements = judged(self.conditions, cases)
        if self.junit is not None:
            write_text(self.junit, junit_xml(judgements))
        for one in judgements:
            if one.holds:
                echo(f"Failed: {one.condition} ({one.case.name}: {one.told})", err=True)
        missing = next((one for one in judgements if one.holds is None), None)
        if any(one.holds for one in judgements):
            sys.exit(EXIT_CODE)
        if missing is not None or not judgements:
            what = f"{missing.case.name}: {missing.told}" if missing else "nothing was measured"
            raise DataError(f"The condition cannot be judged ({what}). Measure it, or leave the condition out.")


class _Condition(click.ParamType):  # type: ignore[type-arg] # generic only in the newest versions of click
    """A condition such as 'forgetting > 0.02'."""

    name = "CONDITION"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read it; what is wrong with it is a usage error."""
        from spectra.errors import DataError
        from spectra.records.conditions import Condition

        try:
            return value if isinstance(value, Condition) else Condition.parse(str(value))
        except DataError as error:
            self.fail(str(error), param, ctx)


gate_options = stacked(
    click.option(
        "--fail-if",
        "conditions",
        type=_Condition(),
        multiple=True,
        help="Condition that gives exit code 3, such as 'forgetting > 0.02' or 'intruders > control'; repeatable.",
    ),
    click.option(
        "--junit", type=FileDestination(JUNIT), help="Also write the outcome of --fail-if to this file, as JUnit XML."
    ),
)
