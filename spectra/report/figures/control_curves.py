"""What controls would count in the place of the tuned matrices: thin lines beside a sweep's own curves."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import altair as alt

from spectra.report.figures.figure import constants, fields, labelled, listed, rows
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers

if TYPE_CHECKING:
    import pandas as pd

Counting = Callable[["pd.DataFrame", Sequence[str]], "pd.DataFrame"]

TRAINED = "trained"
# Names as `spectra.scanning.nulls.controls` gives them, what a reader is told, and the pattern of the line.
CONTROLS: Mapping[str, tuple[str, list[int]]] = {
    "storage rounding": ("dotted", [1, 2]),
    "dense gaussian": ("short dashes", [3, 2]),
    "random low rank": ("long dashes", [8, 3]),
}


def control_counts(material: Material, counting: Counting, axis: str) -> "pd.DataFrame | None":
    """Counts of every control in the place of the chosen trials' matrices, mean over the seeds of a configuration.

    Args:
        material: The sweep.
        counting: Counts along an axis, such as `spectra.records.counts.counts_by_k`.
        axis: Its column.

    Returns:
        Columns label, series, update (the control), the axis, and what was counted; None without controls.
    """
    trials, table = material.chosen, material.tables["controls"]
    table = table[table["trial"].isin(trials["trial"]) & table["control"].isin(list(CONTROLS))]
    if table.empty:
        return None
    counts = labelled(counting(table, ["trial", "control"]), trials)
    counted = [name for name in ("count", "at_most", "vectors") if name in counts]
    means = counts.groupby(["label", "control", axis], sort=False)[counted].mean().reset_index()
    return means.rename(columns={"control": "update"}).assign(series=means["label"], trial="")


def beside(own: "pd.DataFrame", controls: "pd.DataFrame | None") -> "pd.DataFrame":
    """The curves of the trials and of the controls in one table; `update` tells them apart."""
    import pandas as pd

    own = own.assign(update=TRAINED)
    return own if controls is None else pd.concat([own, controls], ignore_index=True)


def control_lines(
    table: "pd.DataFrame", headings: Mapping[str, str], x: alt.X, y: alt.Y, colour: alt.Color
) -> list[alt.Chart]:
    """One thin line per configuration and control; the pattern tells the control."""
    return [
        alt.Chart(rows())
        .mark_line(strokeWidth=1, strokeDash=dashes, opacity=0.9)
        .encode(x=x, y=y, color=colour, detail="label:N", tooltip=fields(headings, table))
        .transform_filter(f"datum.update === '{name}'")
        for name, (_, dashes) in CONTROLS.items()
        if (table["update"] == name).any()
    ]


def words_on_the_rise(controls: "pd.DataFrame", axis: str, ceiling: float) -> alt.Chart:
    """The name of each control where its highest curve rises through a height of its own, so that no two overlap."""
    names = _names(controls)
    places = []
    for position, name in enumerate(names, start=1):
        highest = controls[controls["update"] == name].groupby(axis)["count"].max()
        height = max(1.0, ceiling) ** (position / (len(names) + 1))
        risen = highest[highest >= height]
        places.append((float(risen.index[0] if len(risen) else highest.index[-1]), height))
    data = constants(**{axis: [x for x, _ in places], "count": [y for _, y in places], "text": names})
    mark = alt.Chart(data).mark_text(align="right", dx=-6, fontSize=11, fontStyle="italic")
    return mark.encode(x=f"{axis}:Q", y="count:Q", text="text:N")


def words_at_the_end(controls: "pd.DataFrame", axis: str, ceiling: float) -> list[alt.Chart]:
    """The names of the controls above the right end of their highest curve; of those that stay at zero, in the corner.

    Those that end together share a line.
    """
    last = controls[controls[axis] == controls[axis].max()]
    ends: list[tuple[float, list[str]]] = []
    for name in _names(controls):
        end = float(last.loc[last["update"] == name, "count"].max())
        near = next(
            (names for height, names in ends if abs(height - end) < 0.06 * ceiling and min(height, end) > 0), None
        )
        if near is None:
            ends.append((end, [name]))
        else:
            near.append(name)
    raised = [(height, ", ".join(names)) for height, names in ends if height > 0]
    flat = [name for height, names in ends if height == 0 for name in names]
    columns: dict[str, list[Any]] = {
        axis: [float(controls[axis].max())] * len(raised),
        "count": [height for height, _ in raised],
        "text": [names for _, names in raised],
    }
    style: dict[str, Any] = {"fontSize": 11, "fontStyle": "italic"}
    charts: list[alt.Chart] = []
    if raised:
        mark = alt.Chart(constants(**columns)).mark_text(align="right", dy=-7, **style)
        charts.append(mark.encode(x=f"{axis}:Q", y="count:Q", text="text:N"))
    if flat:
        corner = alt.Chart(constants(text=[f"zero throughout: {', '.join(flat)}"]))
        charts.append(corner.mark_text(align="left", x=8, y=8, **style).encode(text="text:N"))
    return charts


def said_of_controls(controls: "pd.DataFrame | None", axis: str, at: float) -> str:
    """The counts of the controls at one place of the axis, in words."""
    if controls is None:
        return ""
    there = controls[controls[axis] == at]
    said = [f"{row['update']} of {row['label']}: {numbers.compact(row['count'])}" for _, row in there.iterrows()]
    return f". Controls there: {listed(said, most=15)}"


def shown_of_controls(controls: "pd.DataFrame | None") -> str:
    """A sentence of the caption: what the thin lines are."""
    if controls is None:
        return ""
    patterns = ", ".join(f"{name} ({CONTROLS[name][0]})" for name in _names(controls))
    return (
        " Thin lines in the colour of a configuration: the count when its update is replaced, matrix by matrix, by a "
        f"control, of the same norm but for rounding: {patterns}; one draw, mean over seeds."
    )


def _names(controls: "pd.DataFrame") -> list[str]:
    return [name for name in CONTROLS if (controls["update"] == name).any()]
