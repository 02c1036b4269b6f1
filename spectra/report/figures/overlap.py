"""Whose updates point the same way: the overlap of the leading directions of every two checkpoints."""

import altair as alt

from spectra.report.figures.figure import Figure, fields, listed, rows
from spectra.report.figures.map import layer_axis, place
from spectra.report.inputs.material import Material
from spectra.report.inputs.sources import OVERLAPS
from spectra.report.tables import numbers
from spectra.report.tables.html_tables import Column, HtmlTable, html_table, text

PAIR_COLUMNS = {
    "pair": text("Checkpoints"),
    "side": text("Side"),
    "phi": Column("φ, mean over matrices", numbers.decimal),
    "expected": Column("Random subspaces", numbers.decimal),
    "difference": Column("Difference", numbers.signed),
    "above": Column("Matrices above chance", numbers.count),
    "matrices": Column("Matrices", numbers.count),
}


def overlap_maps(material: Material) -> Figure | None:
    """A layers x roles map of phi for every pair of checkpoints and side, on one scale from 0 to 1."""
    table = material.details[OVERLAPS]
    if table.empty:
        return None
    table = place(table.assign(trial=table["pair"] + table["side"]))
    table["panel"] = [f"{pair}, {side}" for pair, side in zip(table["pair"], table["side"], strict=True)]
    panels = [str(panel) for panel in dict.fromkeys(table["panel"])]
    parts = [str(part) for part in dict.fromkeys(table["part"])]
    headings = {
        "panel": "Checkpoints",
        "name": "Matrix",
        "phi": "φ",
        "expected": "φ of random subspaces",
        "most": "Largest of those simulated",
    }
    width = 250
    chart = (
        alt.Chart(rows())
        .mark_rect(stroke="currentColor", strokeOpacity=0.18, strokeWidth=0.5)
        .encode(
            x=alt.X("position:O", title="Layer", axis=layer_axis(table)),
            y=alt.Y("part:N", title=None, sort=parts),
            color=alt.Color(
                "phi:Q",
                title="φ",
                scale=alt.Scale(domain=[0, 1], scheme="viridis"),
                legend=alt.Legend(orient="top", gradientLength=160),
            ),
            tooltip=fields(headings, table),
        )
        .properties(width=width, height={"step": 20})
        .facet(facet=alt.Facet("panel:N", title=None, sort=panels), columns=2, spacing=18)
        .resolve_axis(x="independent")
    )
    said = [
        f"{panel}: {numbers.decimal(group['phi'].mean(), 2)} on average, for random subspaces "
        f"{numbers.decimal(group['expected'].mean(), 2)}"
        for panel, group in table.groupby("panel", sort=False)
    ]
    return Figure(
        identity="overlap-maps",
        title="Overlap of the leading directions of two updates",
        shows="One map per pair of checkpoints and side: columns are layers, rows the roles of the matrices, colour "
        "is φ on one scale from 0 (orthogonal) to 1 (the same subspace).",
        caveat="φ of random subspaces is not zero: it stands in the table below, and in the data of each cell.",
        alternative=listed(said),
        chart=chart,
        table=table[[*headings, "position", "part"]],
        headings=headings,
        panel=width + 20,
        beside=200,
        digits=4,
    )


def pairs_of_checkpoints(material: Material) -> HtmlTable:
    """phi of every pair beside that of random subspaces."""
    table = material.details[OVERLAPS]
    table = table.assign(above=table["phi"] > table["most"])
    grouped = table.groupby(["pair", "side"], sort=False)
    means = grouped.agg(
        phi=("phi", "mean"), expected=("expected", "mean"), above=("above", "sum"), matrices=("name", "size")
    ).reset_index()
    return html_table(
        "overlaps",
        "Overlap of every two updates, beside random subspaces of the same sizes",
        means.assign(difference=means["phi"] - means["expected"]),
        PAIR_COLUMNS,
    )
