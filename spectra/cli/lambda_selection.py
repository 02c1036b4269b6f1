"""`spectra mitigate --choose-by`: the options of the choice, the curve that it rests on, and what is printed of it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from spectra.cli.intervene import LIMITS, held_out_tasks, limit_options, own_task
from spectra.cli.intervene_types import Lambdas
from spectra.cli.options import stacked
from spectra.cli.progress import parts_progress
from spectra.cli.task_option import Task
from spectra.cli.terminal import echo

if TYPE_CHECKING:
    from spectra.interventions import InterventionRun
    from spectra.interventions.lambda_selection import Choice

choice_options = stacked(
    click.option(
        "--choose-by", type=Task(), metavar="TASK", help="Choose lambda on the validation split of the task tuned on."
    ),
    click.option(
        "--heldout",
        type=Task(),
        multiple=True,
        metavar="TASK[:MEASURE]",
        help="With --choose-by: what to mend; repeatable.",
    ),
    click.option(
        "--lambdas",
        type=Lambdas(),
        default="0,0.25,...,1",
        show_default=True,
        metavar="A,B,...,C",
        help="With --choose-by: the factors to choose among.",
    ),
    click.option(
        "--most-drop",
        type=click.FloatRange(min=0),
        default=0.01,
        show_default=True,
        help="With --choose-by: the largest loss of task score.",
    ),
    limit_options,
)
NAMES = ("lambdas", "most_drop", "batch_size", *LIMITS)
# Settings of the mitigation that shape the curve as well.
SHARED = ("base", "select", "share", "k", "epsilon", "device", "include", "exclude", "roles", "layers")


@dataclass(frozen=True)
class Chosen:
    """A choice and the curve behind it."""

    choice: "Choice"
    record: "InterventionRun"

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"choice": asdict(self.choice), "curve": [asdict(row) for row in self.record.rows]}


def chosen(
    adapter: str, choose_by: Any, heldout: tuple[Any, ...], settings: dict[str, Any], *, quiet: bool
) -> Chosen | None:
    """Take the options of the choice out of `settings`; with --choose-by, measure, and put the chosen lambda in.

    Raises:
        click.UsageError: If --choose-by and --heldout do not come together.
    """
    asked = {name: settings.pop(name) for name in NAMES}
    if bool(choose_by) != bool(heldout):
        raise click.UsageError("--choose-by needs --heldout, and --heldout is for --choose-by. Give both or neither.")
    if choose_by is None:
        return None
    from spectra.interventions.lambda_selection import choose_lambda

    record = _measured(adapter, choose_by, heldout, asked, settings, quiet=quiet)
    arm = "shrink" if settings["shrink"] else "intruders"
    choice = choose_lambda(record, arm=arm, most_drop=asked["most_drop"])
    settings["lam"] = choice.lam
    return Chosen(choice, record)


def _measured(
    adapter: str,
    choose_by: Any,
    heldout: tuple[Any, ...],
    asked: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    quiet: bool,
) -> "InterventionRun":
    """The curve, on validation splits alone."""
    from spectra.engine.cache import FactorCache
    from spectra.interventions import intervene, on_validation
    from spectra.interventions.lambda_selection import held_out_validation

    limits = {name: asked[name] for name in LIMITS}
    held_out = [held_out_validation(task) for task in held_out_tasks(heldout, limits, whole=False)]
    with parts_progress("choosing lambda", quiet=quiet) as progress:
        return intervene(
            adapter,
            held_out,
            task=on_validation(own_task(choose_by, limits)),
            lambdas=asked["lambdas"],
            controls=("shrink",) if settings["shrink"] else (),
            batch_size=asked["batch_size"],
            cache=FactorCache(),
            progress=progress,
            **{name: settings[name] for name in SHARED},
        )


def print_choice(made: Chosen) -> None:
    """The curve and the choice."""
    from spectra.cli.intervene_output import print_points

    rows = [row for row in made.record.rows if row.arm == made.choice.arm]
    for heldout in dict.fromkeys(row.heldout for row in rows):
        print_points([row for row in rows if row.heldout == heldout])
    echo(made.choice.reason + "\n")
