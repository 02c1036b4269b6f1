"""How advice and its verification read on a terminal."""

from typing import TYPE_CHECKING

from spectra.cli.terminal import console, echo, table_width

if TYPE_CHECKING:
    from rich.table import Table

    from spectra.advice import Advice, Verification

SHOWN = 48


def print_advice(advice: "Advice") -> None:
    """One line per matrix, then what it amounts to and what it rests on."""
    from rich.text import Text

    table = _table("matrix", ("rank", "energy", "alpha", "critical", "predicted"))
    for matrix in advice.matrices[:SHOWN]:
        in_use, critical = matrix.alpha_in_use, matrix.critical
        predicted = None if in_use is None or critical is None else in_use * critical.predicted
        table.add_row(
            Text(matrix.name),
            str(matrix.rank),
            f"{100 * matrix.energy_kept:.1f} %",
            f"{matrix.alpha:.4g}",
            _cell(matrix.critical_alpha),
            _cell(predicted),
        )
    _print(table)
    if len(advice.matrices) > SHOWN:
        echo(f"... and {len(advice.matrices) - SHOWN} more matrices (--csv lists all)")
    for sentence in sentences(advice):
        echo(sentence)


def sentences(advice: "Advice") -> list[str]:
    """The whole in numbers, then the evidence."""
    ranks = [matrix.rank for matrix in advice.matrices]
    told = [
        f"Ranks {min(ranks)} to {max(ranks)}, {advice.parameters:,} trained numbers, keep "
        f"{100 * advice.energy_kept:.1f} % of the update's energy (asked: {100 * advice.keep:g} % of each matrix).",
    ]
    if any(matrix.critical is not None for matrix in advice.matrices):
        told.append(
            "critical: the alpha at which the trained factors make their first intruder dimension "
            f"(k = {advice.k}, epsilon = {advice.epsilon:g}), measured where it could be; predicted: the same for a "
            "random direction, from the singular values of W0 alone."
        )
    return [*told, "This rests on:", *(f"- {sentence}" for sentence in advice.evidence)]


def print_verification(outcome: "Verification") -> None:
    """The advised configuration beside those it came from, and what became of the thresholds."""
    from rich.text import Text

    echo()
    table = _table("configuration", ("seeds", "rate", "validation", "test", "intruders", "|dW|", "trained"))
    for one in outcome.outcomes:
        figures = one.figures
        parameters = figures["trainable_parameters"]
        table.add_row(
            Text(one.label),
            str(one.seeds),
            _cell(figures["learning_rate"]),
            _cell(figures["validation_score"]),
            _cell(figures["task_score"]),
            _cell(figures["count"]),
            _cell(figures["update_frobenius"]),
            "–" if parameters is None else f"{parameters:,.0f}",
        )
    _print(table)
    for one in outcome.outcomes:
        lost = ", ".join(f"{task} {value:+.4f}" for task, value in one.forgetting.items())
        if lost:
            echo(f"Forgetting of {one.label}: {lost}")
    echo(outcome.sentence())
    echo(f"Run: {outcome.run}")


def _table(first: str, rest: tuple[str, ...]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(first, overflow="fold", ratio=1)
    for heading in rest:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _print(table: "Table") -> None:

    console(width=table_width()).print(table)


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"
