"""The metrics of one checkpoint beside what chance, noise or storage would give."""

from typing import TYPE_CHECKING

from spectra.report.figures.figure import Figure, counted_bars, listed
from spectra.report.inputs.material import Material
from spectra.report.inputs.sources import CONTROLS
from spectra.report.tables import numbers
from spectra.report.tables.html_tables import Column, HtmlTable, html_table, text

if TYPE_CHECKING:
    import pandas as pd


def controls_table(material: Material) -> HtmlTable | None:
    """Every metric of the checkpoint beside its controls."""
    table = material.details.get(CONTROLS)
    if table is None or table.empty:
        return None
    values = {name: Column(f"{name[0].upper()}{name[1:]}", _figure) for name in _figures(table)}
    columns = {"metric": text("Metric"), **values, "over": text("Over matrices"), "formula": text("Formula")}
    return html_table("controls", "Every metric, and what controls of the same size give", table, columns)


def _figures(table: "pd.DataFrame") -> list[str]:
    """The columns with figures: the checkpoint's, and one per control."""
    return [str(name) for name in table if name not in ("metric", "over", "formula")]


def _figure(value: float) -> str:
    """A count as a count, anything else at three digits."""
    return numbers.count(value) if float(value).is_integer() else numbers.compact(value)


def count_beside_controls(material: Material) -> Figure | None:
    """The intruder count of the checkpoint, and of every control."""
    from pandas import DataFrame

    table = material.details.get(CONTROLS)
    if table is None or table.empty or "intruders.count" not in set(table["metric"]):
        return None
    row = table[table["metric"] == "intruders.count"].iloc[0]
    counts = {name: float(row[name]) for name in _figures(table) if not numbers.absent(row[name])}
    if len(counts) < 2:
        return None
    bars = DataFrame({"what": list(counts), "count": list(counts.values())})
    headings = {"what": "Update", "count": "Intruder dimensions"}
    chart = counted_bars(bars, headings)
    return Figure(
        identity="count-controls",
        title="Intruder dimensions beside controls",
        shows="The count of the checkpoint, and the count when its update is replaced, matrix by matrix, by storage "
        "rounding, by dense noise of the same norm, or by random factors of the same norm and rank.",
        caveat="Controls are simulated: a count that a random update of the same norm reaches as well is no sign of "
        "what training did.",
        alternative=listed([f"{name}: {_figure(count)}" for name, count in counts.items()]),
        chart=chart,
        table=bars,
        headings=headings,
        wide=False,
    )
