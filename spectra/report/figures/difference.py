"""The figure of a comparison: how far each source's intruder count is from the baseline's."""

import altair as alt

from spectra.report.figures.figure import Figure, colour_of_label, fields, listed, rows
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers
from spectra.report.tables.differences import differences

MEASURES = {
    "count": "Intruder dimensions (difference)",
    "update_relative": "‖ΔW‖ / ‖W0‖ (difference)",
    "forgetting": "Forgetting (difference)",
}


def count_differences(material: Material) -> Figure | None:
    """Bars of the differences from the baseline, one panel per measure that differs."""
    import pandas as pd

    table = differences(material)
    shown = [name for name in MEASURES if table[name].notna().any() and (table[name].astype(float) != 0).any()]
    if table.empty or not shown:
        return None
    labels = [str(label) for label in dict.fromkeys(table["label"])]
    long = pd.concat(
        [
            table[["label", "against"]].assign(measure=MEASURES[name], difference=table[name].astype(float))
            for name in shown
        ],
        ignore_index=True,
    )
    headings = {"label": "Configuration", "against": "Minus", "measure": "Measure", "difference": "Difference"}
    width = 300
    base = alt.Chart(rows()).encode(y=alt.Y("label:N", sort=labels, title=None, axis=alt.Axis(labelLimit=260)))
    # Some room at zero, so that a difference of nothing shows its place.
    x = alt.X("difference:Q", title=None, axis=alt.Axis(tickCount=4), scale=alt.Scale(padding=22))
    bars = alt.layer(
        base.mark_bar(height={"band": 0.6}).encode(
            x=x, color=colour_of_label(material.chosen, legend=None), tooltip=fields(headings, long)
        ),
        base.mark_rule(opacity=0.6).encode(x=alt.datum(0)),
    )
    chart = (
        bars.properties(width=width, height={"step": 26})
        .facet(facet=alt.Facet("measure:N", title=None, sort=[MEASURES[name] for name in shown]), columns=2, spacing=18)
        .resolve_scale(x="independent")
        .resolve_axis(x="independent")
    )
    said = [f"{row['label']}: {numbers.compact(row['difference'])}, {row['measure']}" for _, row in long.iterrows()]
    return Figure(
        identity="differences-figure",
        title=f"Differences from {material.baseline}",
        shows=f"Every configuration minus that of {material.baseline} of the same name, means over seeds at the chosen "
        "learning rates; one colour per run or scan. Bars to the right have more than the baseline.",
        caveat="Counts are compared as they are: each has its own null control, beside it in the section on intruders.",
        alternative=listed(said),
        chart=chart,
        table=long,
        headings=headings,
        panel=width + 30,
        beside=7 * min(34, max(map(len, labels))) + 20,
    )
