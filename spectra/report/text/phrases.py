"""The parts that sentences are put together from: nouns with numbers, configurations, extremes of a table."""

from typing import TYPE_CHECKING, SupportsFloat

from spectra.report.tables import numbers

if TYPE_CHECKING:
    import pandas as pd


def intruders_text(count: SupportsFloat) -> str:
    """A count with its noun."""
    return f"{numbers.count(count)} intruder dimension{'' if float(count) == 1 else 's'}"


def matrices_text(count: SupportsFloat) -> str:
    """A number of matrices with its noun."""
    return f"{numbers.count(count)} matri{'x' if float(count) == 1 else 'ces'}"


def groups(trials: "pd.DataFrame") -> "list[tuple[str, pd.DataFrame]]":
    """Trials of the same configuration, in table order: one per seed."""
    return [(str(label), group) for label, group in trials.groupby("label", sort=False)]


def over_seeds(trials: "pd.DataFrame") -> str:
    """How many seeds stand behind a mean; empty for one."""
    seeds = int(trials.groupby("label").size().max())
    return f", mean and range over {seeds} seeds" if seeds > 1 else ""


def highest(table: "pd.DataFrame", column: str) -> "pd.Series":
    """The first row with the largest value."""
    return table.iloc[int(table[column].to_numpy(dtype=float).argmax())]


def lowest(table: "pd.DataFrame", column: str) -> "pd.Series":
    """The first row with the smallest value."""
    return table.iloc[int(table[column].to_numpy(dtype=float).argmin())]
