"""A figure of a report: the chart, what it shows and does not show, its text alternative and its data."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import altair as alt

from spectra.records.looks import COLOURS, FULL_COLOUR
from spectra.report.tables import numbers
from spectra.report.tables.packed import DIGITS

if TYPE_CHECKING:
    import pandas as pd

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
TABLE = "table"
MOST_LOG_TICKS = 10
# Plain numbers near one, powers of ten beyond, with a real minus.
LOG_LABELS = (
    "datum.value >= 0.001 && datum.value < 10000 ? format(datum.value, '~g') : "
    "replace(format(datum.value, '~e'), '-', '−')"
)
# The same at 1, 2 and 5 times a power of ten only, for an axis that chooses its own ticks.
FEW_LOG_LABELS = (
    f"indexof([1, 2, 5], round(datum.value / pow(10, floor(log(datum.value) / LN10 + 1e-9)))) < 0 ? '' : ({LOG_LABELS})"
)
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
    "legend": {**INK, **TEXT, "titleLimit": 320, "layout": {"bottom": {"direction": "vertical"}}},
    "header": {**INK, "labelFontSize": 12, "labelLimit": 250, "labelFontWeight": 600},
    "text": {"color": "currentColor"},
    "rule": {"color": "currentColor"},
}
# Colour, shape and line pattern share it, so that Vega-Lite draws them as one legend.
LEGEND = alt.Legend(orient="bottom", symbolLimit=40, symbolOpacity=1, title=None)
# The same for lines: each entry shows a piece of its line, dashes included.
LINES = alt.Legend(
    orient="bottom",
    symbolLimit=40,
    symbolOpacity=1,
    title=None,
    symbolType="stroke",
    symbolSize=300,
    symbolStrokeWidth=2,
)


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
        """The Vega-Lite specification, without data; its description is what a screen reader calls the drawing."""
        return {**self.chart.to_dict(), "config": THEME, "description": self.title}

    @property
    def legend(self) -> list[str]:
        """The labels of the longest legend, by which the page lays out its columns."""
        return max(_domains(self.specification()), key=len, default=[])


def _domains(specification: Any) -> Iterator[list[str]]:
    """Every list of labels that a scale of the specification has."""
    if isinstance(specification, Mapping):
        for key, inner in specification.items():
            if key == "domain" and isinstance(inner, list) and all(isinstance(one, str) for one in inner):
                yield inner
            elif key != "datasets":
                yield from _domains(inner)
    elif isinstance(specification, list):
        for inner in specification:
            yield from _domains(inner)


def log_axis(values: Iterable[float]) -> tuple[alt.Scale, list[float]]:
    """A logarithmic scale that begins and ends at ticks beyond the data, and its ticks: 1, 2, 5 times a power of ten.

    Args:
        values: Positive numbers.
    """
    low, high = min(values := list(values)), max(values)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks = [float(f"{step}e{power}") for power in powers for step in (1, 2, 5)]
    first = max(at for at, tick in enumerate(ticks) if tick <= low * (1 + 1e-9))
    last = min(at for at, tick in enumerate(ticks) if tick >= high * (1 - 1e-9))
    if first == last:  # one value on a tick of its own still needs an axis
        first, last = first - 1, last + 1
    shown = ticks[first : last + 1]
    if len(shown) > MOST_LOG_TICKS:
        shown = [tick for tick in shown if f"{tick:e}".startswith("1")] or shown
        shown = sorted({ticks[first], *shown, ticks[last]})
    return alt.Scale(type="log", nice=False, domain=[ticks[first], ticks[last]]), shown


def rows() -> alt.NamedData:
    """The data that the page supplies to a chart: the figure's table."""
    return alt.NamedData(TABLE)


def constants(**columns: Sequence[Any]) -> alt.InlineData:
    """A few values of a chart's own, such as the place of a rule."""
    keys = list(columns)
    return alt.InlineData(values=[dict(zip(keys, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def colour_of_label(trials: "pd.DataFrame", *, lines: bool = False, **options: Any) -> alt.Color:
    """Colour by configuration, the same in every figure of a page; `lines` for a legend of lines."""
    labels, colours = _by_label(trials)
    return alt.Color(
        "label:N",
        scale=alt.Scale(domain=labels, range=colours),
        **{"legend": legend_of(labels, lines=lines), **options},
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
    return alt.StrokeDash("label:N", scale=alt.Scale(domain=labels, range=dashes), legend=legend_of(labels, lines=True))


def legend_of(labels: Sequence[str], *, lines: bool = False) -> alt.Legend | None:
    """The legend of a page's configurations, as marks or as lines; one alone needs none."""
    return None if len(labels) < 2 else LINES if lines else LEGEND


def counted_bars(bars: "pd.DataFrame", headings: Mapping[str, str]) -> Any:
    """Horizontal bars of the columns `what` and `count`, each with its number, and room for the longest."""
    base = alt.Chart(rows())
    x = alt.X(
        "count:Q",
        title="Intruder dimensions (number, sum over matrices)",
        axis=alt.Axis(tickMinStep=1, tickCount=5),
        scale=alt.Scale(domain=[0, 1.3 * max(1.0, float(bars["count"].max()))], nice=False),
    )
    y = alt.Y("what:N", title=None, sort=list(bars["what"]))
    chart = alt.layer(
        base.mark_bar(height={"band": 0.6}).encode(x=x, y=y, tooltip=fields(headings, bars)),
        base.mark_text(align="left", dx=6, fontSize=12).encode(x=x, y=y, text=alt.Text("count:Q", format=",.4~r")),
    )
    return page_wide(chart, 34 * len(bars) + 10)


def _by_label(trials: "pd.DataFrame") -> tuple[list[str], list[str]]:
    labels = [str(label) for label in dict.fromkeys(trials["label"])]
    if "source" in trials:  # a comparison: one colour per run or scan
        sources = dict(zip(trials["label"], trials["source"], strict=True))
        places = {source: place for place, source in enumerate(dict.fromkeys(trials["source"]))}
        palette = (FULL_COLOUR, *COLOURS)
        return labels, [palette[places[sources[label]] % len(palette)] for label in labels]
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
            color=colour_of_label(trials, lines=True),
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
