"""The spectra of the updates: how fast their singular values fall."""

import altair as alt

from spectra.report.figures.figure import (
    LOG_LABELS,
    Figure,
    colour_of_label,
    dash_of_label,
    fields,
    listed,
    log_axis,
    page_wide,
    rows,
)
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers


def update_spectra(material: Material) -> Figure | None:
    """Singular values of delta_W over the largest one: median over the matrices of a configuration."""
    values, trials = material.tables["update_spectra"], material.chosen
    values = values[values["trial"].isin(trials["trial"])].merge(trials[["trial", "label", "method"]], on="trial")
    largest = values.groupby(["trial", "name"])["value"].transform("max")
    # A zero has no place on a logarithmic axis, and a zero update no spectrum.
    values = values.assign(relative=values["value"] / largest)[values["value"] > 0]
    if values.empty:
        return None
    grouped = values.groupby(["label", "index"], sort=False)["relative"]
    table = grouped.agg(median="median", matrices="size").reset_index()
    table["position"] = table["index"].astype(int) + 1
    headings = {
        "label": "Configuration",
        "position": "Position",
        "median": "σ_j / σ_1 of ΔW, median",
        "matrices": "Spectra behind it",
    }
    scale, ticks = log_axis(table["median"])
    chart = (
        alt.Chart(rows())
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=20))
        .encode(
            x=alt.X("position:Q", title="Position j of the singular value", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y(
                "median:Q",
                title="σ_j / σ_1 of ΔW (median)",
                scale=scale,
                axis=alt.Axis(values=ticks, labelExpr=LOG_LABELS),
            ),
            color=colour_of_label(trials, lines=True),
            strokeDash=dash_of_label(trials),
            tooltip=fields(headings, table),
        )
    )
    said = []
    for label, group in table.groupby("label", sort=False):
        last = group.sort_values("position").iloc[-1]
        said.append(f"{label}: {numbers.compact(last['median'])} of the largest at position {last['position']}")
    return Figure(
        identity="update-spectra",
        title="Spectra of the updates",
        shows="Singular values of ΔW over the largest one, by position; median over the matrices and seeds of a "
        "configuration. The vertical axis is logarithmic; a steep line is an update along few directions.",
        caveat="A median curve is no single matrix's spectrum. Spectra end at the rank of a low-rank update, or at the "
        "64th value of a dense one, which may have hundreds more.",
        alternative=listed(said),
        chart=page_wide(chart, 280),
        table=table[list(headings)],
        headings=headings,
        wide=False,
    )
