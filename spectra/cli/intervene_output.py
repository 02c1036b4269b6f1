"""What `spectra intervene` prints: one table per held-out task, the contrasts, the verdict."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from spectra.cli.sweep_output import print_table
from spectra.cli.terminal import echo
from spectra.statistics.interval import interval_text

if TYPE_CHECKING:
    from spectra.interventions import InterventionRow, InterventionRun


def print_run(record: "InterventionRun") -> None:
    """Everything for people; fits 80 columns."""
    echo(
        f"{record.directions} of {record.count} intruder dimensions scaled, in {len(record.treated)} of "
        f"{record.matrices} matrices (k = {record.k}, epsilon = {record.epsilon:g}, select: {record.select})."
    )
    for heldout in dict.fromkeys(row.heldout for row in record.rows):
        print_points([row for row in record.rows if row.heldout == heldout])
    if record.missing:
        echo(f"{len(record.missing)} points are not measured yet.")
    for one in record.contrasts:
        if one.control != "shrink":
            echo(one.sentence)
    for sentence in record.verdicts.values():
        echo(f"Verdict: {sentence}")


def print_points(rows: "Sequence[InterventionRow]") -> None:
    """The points of one held-out task."""
    first = rows[0]
    echo(
        f"\n{first.heldout}, {first.n:,} examples; forgot: loss minus that of the base ({first.base:.4g}), {first.unit}"
    )
    header = ("arm", "lambda", "norm", "score", "forgot", "interval", "change")
    told = [_cells(row) for row in rows if row.factor != 1 or row is _unedited(rows)]
    print_table(header, told, numeric=range(1, len(header)))
    if first.task_metric:
        echo(f"score: {first.task_metric} on {first.task_n:,} examples of {first.task}")


def _unedited(rows: "Sequence[InterventionRow]") -> "InterventionRow | None":
    """The row of the tuned model as it is; one is shown for all arms."""
    return next((row for row in rows if row.factor == 1), None)


def _cells(row: "InterventionRow") -> tuple[str, ...]:
    return (
        "as tuned" if row.factor == 1 else row.arm,
        f"{row.factor:g}",
        f"{100 * row.update_share:.0f}%",
        "" if row.task_score is None else f"{row.task_score:.4f}",
        f"{row.forgetting:+.4f}",
        interval_text(row.low, row.high, "+.4f"),
        "" if row.factor == 1 else f"{row.change:+.4f}",
    )
