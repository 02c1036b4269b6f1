"""A figure of a report: the chart, what it shows and does not show, its text alternative and its data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import altair as alt

from spectra.report.tables import numbers
from spectra.report.tables.packed import DIGITS

if TYPE_CHECKING:
    import pandas as pd

# Legible on white and on near-black (3:1 or more on both) and told apart by the common colour-blindnesses;
# full fine-tuning always has the first one.
FULL_COLOUR = "#d1602a"
COLOURS = ("#2e7fc9", "#1d9b6c", "#a86ac7", "#9c7f16", "#cf4c87", "#1b93a8", "#7c8794")
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
TABLE = "table"
AXES = {
    "count": "Intruder dimensions (number)",
    "energy_share": "Energy share of intruders (0 to 1)",
    "update_relative": "‖ΔW‖ / ‖W0‖ (Frobenius norms)",
    "effective_rank": "Effective rank of ΔW (mean over matrices)",
}
# Text and lines are drawn in `currentColor`, so light, dark and print follow the page without a redraw. The element
# that holds the chart carries the text alternative, hence no labels on single marks (`aria`).
INK = {"labelColor": "currentColor", "titleColor": "currentColor"}
TEXT = {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"}
THEME: Mapping[str, Any] = {
    "background": "transparent",
    "font": "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', sans-serif",
    "aria": False,
    "padding": 4,
    "view": {"stroke": None},
    "axis": {
        **INK,
        **TEXT,
        "domainColor": "currentColor",
        "tickColor": "currentColor",
        "gridColor": "currentColor",
        "gridOpacity": 0.13,
        "domainOpacity": 0.5,
        "tickOpacity": 0.5,
        "titlePadding": 8,
        "labelLimit": 190,
    },
    "axisX": {"tickCount": 8},
    "legend": {**INK, **TEXT, "titleLimit": 320},
    "header": {**INK, "labelFontSize": 12, "labelLimit": 250, "labelFontWeight": 600},
    "text": {"color": "currentColor"},
    "rule": {"color": "currentColor"},
}
# Colour, shape and line pattern share it, so that Vega-Lite draws them as one legend.
LEGEND = alt.Legend(orient="bottom", symbolLimit=40, symbolOpacity=1, title=None)


@dataclass(frozen=True, eq=False)
class Figure:
    """One figure.

    Attributes:
        identity: The element's id.
        title: What is plotted, as a heading.
        shows: What the reader sees.
        caveat: What the figure does not show.
        alternative: The figure in words, for those who do not see it.
        chart: The chart; its data is the named table that the page supplies.
        table: The data, one row per mark.
        headings: Heading with unit for every column of the data that a reader is shown.
        panel: Width in pixels of one panel of a faceted chart, its gap included; 0 for a chart that fills its place.
        beside: Width in pixels that a faceted chart needs beside its panels, for labels.
        wide: Whether the figure takes the page's width, or shares it with a neighbour.
        digits: Significant digits that the page keeps of the data.
    """

    identity: str
    title: str
    shows: str
    caveat: str
    alternative: str
    chart: Any
    table: "pd.DataFrame"
    headings: Mapping[str, str] = field(default_factory=dict)
    panel: int = 0
    beside: int = 0
    wide: bool = True
    digits: int = DIGITS

    def specification(self) -> dict[str, Any]:
        """The Vega-Lite specification, without data."""
        return {**self.chart.to_dict(), "config": THEME}


def rows() -> alt.NamedData:
    """The data that the page supplies to a chart: the figure's table."""
    return alt.NamedData(TABLE)


def constants(**columns: Sequence[Any]) -> alt.InlineData:
    """A few values of a chart's own, such as the place of a rule."""
    keys = list(columns)
    return alt.InlineData(values=[dict(zip(keys, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def colour_of_label(trials: "pd.DataFrame", **options: Any) -> alt.Color:
    """Colour by configuration, the same in every figure of a page."""
    labels, colours = _by_label(trials)
    return alt.Color(
        "label:N", scale=alt.Scale(domain=labels, range=colours), **{"legend": legend_of(labels), **options}
    )


def shape_of_label(trials: "pd.DataFrame") -> alt.Shape:
    """Shape by configuration, so that nothing is told by colour alone."""
    labels, _ = _by_label(trials)
    shapes = [SHAPES[position % len(SHAPES)] for position in range(len(labels))]
    return alt.Shape("label:N", scale=alt.Scale(domain=labels, range=shapes), legend=legend_of(labels))


def dash_of_label(trials: "pd.DataFrame") -> alt.StrokeDash:
    """Line pattern by configuration."""
    labels, _ = _by_label(trials)
    patterns = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [10, 4], [1, 3])
    dashes = [patterns[position % len(patterns)] for position in range(len(labels))]
    return alt.StrokeDash("label:N", scale=alt.Scale(domain=labels, range=dashes), legend=legend_of(labels))


def legend_of(labels: Sequence[str]) -> alt.Legend | None:
    """The legend of a page's configurations; one alone needs none."""
    return LEGEND if len(labels) > 1 else None


def _by_label(trials: "pd.DataFrame") -> tuple[list[str], list[str]]:
    labels = [str(label) for label in dict.fromkeys(trials["label"])]
    full = set(trials.loc[trials["method"] == "full", "label"])
    others = [label for label in labels if label not in full]
    colours = {label: COLOURS[position % len(COLOURS)] for position, label in enumerate(others)}
    return labels, [colours.get(label, FULL_COLOUR) for label in labels]


def fields(headings: Mapping[str, str], table: "pd.DataFrame") -> list[alt.Tooltip]:
    """The tooltip: every headed column of the data."""
    tips = []
    for name, heading in headings.items():
        is_number = str(table[name].dtype).lower().startswith(("float", "int"))
        tips.append(alt.Tooltip(field=name, type="quantitative" if is_number else "nominal", title=heading))
    return tips


def lines_of_trials(
    trials: "pd.DataFrame", x: alt.X, y: alt.Y, tooltip: Sequence[alt.Tooltip], **mark: Any
) -> alt.Chart:
    """One line per trial, told apart by its label; `mark` are options of the line."""
    return (
        alt.Chart(rows())
        .mark_line(**mark)
        .encode(
            x=x,
            y=y,
            color=colour_of_label(trials),
            strokeDash=dash_of_label(trials),
            detail="trial:N",
            tooltip=tooltip,
        )
    )


def page_wide(chart: Any, height: int) -> Any:
    """Let a chart take the width of the page; `height` is that of its plot in pixels, legends come on top."""
    return chart.properties(
        width="container", height=height, autosize=alt.AutoSizeParams(type="fit-x", contains="padding")
    )


def at_rate(trial: "pd.Series") -> str:
    """The learning rate of a trial in words, where it is known."""
    rate = trial["learning_rate"]
    return "" if numbers.absent(rate) else f" at learning rate {numbers.exact(rate)}"


def listed(parts: Sequence[str], most: int = 12) -> str:
    """Parts of a text alternative, cut where a listener would lose the thread."""
    rest = len(parts) - most
    return "; ".join(parts[:most]) + (f"; and {numbers.count(rest)} more in the data table" if rest > 0 else "")


def labelled(table: "pd.DataFrame", trials: "pd.DataFrame") -> "pd.DataFrame":
    """Add label, `is_full`, and `series`: the label, with the seed where a configuration has several trials."""
    several = trials["label"].duplicated(keep=False)
    names = trials.assign(
        is_full=trials["method"] == "full",
        series=[
            f"{label} (seed {seed})" if more and not numbers.absent(seed) else label
            for label, seed, more in zip(trials["label"], trials["seed"], several, strict=True)
        ],
    )
    return table.merge(names[["trial", "label", "series", "is_full"]], on="trial")
