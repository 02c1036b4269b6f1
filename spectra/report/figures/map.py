"""Maps over several trials: where intruders sit, and how similar leading vectors are before and after."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import altair as alt

from spectra.errors import first_five
from spectra.records.counts import primary_side
from spectra.report.figures.figure import Figure, fields, labelled, listed, rows
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers

if TYPE_CHECKING:
    import pandas as pd

OUTSIDE = -1
MOST_TICKS = 11
MOST_PANELS = 12
COSINE = {"i": "Pre-trained vector i", "j": "Tuned vector j", "cosine": "|cosine|"}


def place(matrices: "pd.DataFrame") -> "pd.DataFrame":
    """Add the cell of the layers x roles map: `position` (layer, -1 outside the blocks) and `part`.

    `part` is the role; where several matrices of a layer share a role, as in an encoder-decoder or among experts, it
    is the name with its layer number replaced by a star.
    """
    placed = matrices.assign(position=matrices["layer"].fillna(OUTSIDE).astype(int), part=matrices["role"])
    keys = ["position", "role", *(["trial"] if "trial" in placed else [])]
    if placed.duplicated(keys).any():
        placed["part"] = [
            re.sub(rf"(?<![0-9]){position}(?![0-9])", "*", name, count=1) if position != OUTSIDE else name
            for name, position in zip(placed["name"], placed["position"], strict=True)
        ]
    return placed


def layer_axis(placed: "pd.DataFrame") -> alt.Axis:
    """The axis of layers, with as many labels as fit a narrow map; what is outside the blocks stands at "none"."""
    positions = sorted(int(position) for position in placed["position"].unique())
    stride = -(-len(positions) // MOST_TICKS)
    labels = f"datum.value < 0 ? 'none' : datum.value % {stride} ? '' : datum.value"
    return alt.Axis(labelExpr=labels, labelAngle=0, labelOverlap=False)


def layer_maps(material: Material) -> Figure | None:
    """One layers x roles map per chosen trial: intruder counts, or how near to counting where there are none."""
    table = labelled(place(material.tables["matrices"]), material.chosen)
    if table.empty:
        return None
    vectors = primary_side(material.tables["vectors"])
    nearest = vectors.groupby(["trial", "name"])["max_cosine"].min().rename("nearest").reset_index()
    table = table.merge(nearest, on=["trial", "name"], how="left")
    table, left_out = _worth_drawing(table)
    series = [str(name) for name in dict.fromkeys(table["series"])]
    parts = [str(part) for part in dict.fromkeys(table["part"])]
    headings = {
        "series": "Configuration",
        "name": "Matrix",
        "layer": "Layer",
        "role": "Role",
        "count": "Intruder dimensions",
        "nearest": "Least similar vector, largest |cosine| found",
        "energy_share": "Energy share",
        "update_relative": "‖ΔW‖ / ‖W0‖",
    }
    most = int(table["count"].max())
    width = 250
    chart = (
        alt.Chart(rows())
        .mark_rect(stroke="currentColor", strokeOpacity=0.18, strokeWidth=0.5)
        .encode(
            x=alt.X("position:O", title="Layer", axis=layer_axis(table)),
            y=alt.Y("part:N", title=None, sort=parts),
            color=_count_colour(most) if most else _nearness_colour(),
            tooltip=fields(headings, table),
        )
        .properties(width=width, height={"step": 20})
        .facet(facet=alt.Facet("series:N", title=None, sort=series), columns=2, spacing=18)
        .resolve_axis(x="independent")
    )
    # Checkpoints of different models share no rows: each panel then has its own.
    same = len({tuple(dict.fromkeys(group["part"])) for _, group in table.groupby("series")}) == 1
    if not same:
        chart = chart.resolve_scale(x="independent", y="independent")
    said = [
        f"{name}: {numbers.count(group['count'].sum())} in {int((group['count'] > 0).sum())} matrices, nearest vector "
        f"at {numbers.decimal(group['nearest'].min(), 2)}"
        for name, group in table.groupby("series", sort=False)
    ]
    colour = (
        "colour is the number of intruder dimensions on one common scale, a blank cell has none."
        if most
        else "colour is the largest |cosine| found of its least similar leading vector: the vector that would count "
        "first if ε were raised. No cell has an intruder."
    )
    return Figure(
        identity="layer-maps",
        title="Where the intruder dimensions sit" if most else "Where the least similar vectors sit",
        shows=f"One map per chosen trial: columns are layers, rows are the roles of the matrices, {colour}{left_out}",
        caveat="Matrices differ in size and in the norm of their update; a cell says nothing of either.",
        alternative=listed(said),
        chart=chart,
        table=table[[*headings, "position", "part"]],
        headings=headings,
        panel=width + (20 if same else 210),
        beside=200 if same else 20,
    )


def _worth_drawing(table: "pd.DataFrame") -> "tuple[pd.DataFrame, str]":
    """The panels with intruders beside one of full fine-tuning, and a sentence on those left out.

    Without any intruder all panels are drawn, up to `MOST_PANELS`.
    """
    totals = table.groupby("series", sort=False).agg(count=("count", "sum"), is_full=("is_full", "first"))
    if totals["count"].max() > 0:
        full = totals.index[totals["is_full"]][:1]
        kept = totals.index[(totals["count"] > 0) | totals.index.isin(full)]
        reason = "Left out, because all their cells are blank"
    else:
        kept, reason = totals.index, ""
    if len(kept) > MOST_PANELS:
        kept = kept[kept.isin(totals["count"].sort_values(ascending=False, kind="stable").index[:MOST_PANELS])]
        reason = f"Left out, to keep the {MOST_PANELS} with the most intruders"
    missing = [str(name) for name in totals.index if name not in kept]
    said = f" {reason}: {first_five(missing)}." if missing else ""
    return table[table["series"].isin(kept)], said


def _count_colour(most: int) -> Any:
    """Colour of a count from the least that is drawn; none is blank."""
    least = min(1, most - 1)
    return alt.condition(
        "datum.count > 0",
        alt.Color(
            "count:Q",
            title="Intruder dimensions (number; blank = none)",
            scale=alt.Scale(domain=[least, most], scheme="viridis"),
            legend=alt.Legend(orient="top", gradientLength=160, values=sorted({1, (1 + most) // 2, most}), format="d"),
        ),
        alt.value("transparent"),
    )


def _nearness_colour() -> alt.Color:
    """Colour of the cosine of the vector nearest to counting: brighter is nearer."""
    return alt.Color(
        "nearest:Q",
        title="Largest |cosine| of the least similar vector",
        scale=alt.Scale(scheme="viridis", reverse=True, domainMax=1),
        legend=alt.Legend(orient="top", gradientLength=160, format=".2f", tickCount=4),
    )


def cosine_map(chart: alt.Chart, headings: Mapping[str, str], table: "pd.DataFrame") -> alt.Chart:
    """|cosine| of pre-trained vectors (rows) and tuned ones (columns) as colour, from 0 to 1 in every figure."""
    return chart.mark_rect().encode(
        x=alt.X("j:O", title=COSINE["j"], axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("i:O", title=COSINE["i"], axis=alt.Axis(labelOverlap=True)),
        color=alt.Color(
            "cosine:Q",
            title=COSINE["cosine"],
            scale=alt.Scale(domain=[0, 1], scheme="viridis"),
            legend=alt.Legend(orient="top", gradientLength=160),
        ),
        tooltip=fields(headings, table),
    )


def similarity_maps(material: Material) -> Figure | None:
    """|cosine| between leading vectors before and after, one panel per chosen trial, one matrix."""
    table = material.tables["similarity"]
    if table.empty:
        return None
    # One panel per configuration: its first seed.
    shown = material.chosen.drop_duplicates("label")
    name = str(table[table["trial"].isin(shown["trial"])].groupby("name")["trial"].nunique().idxmax())
    table = labelled(table[table["name"] == name], shown.head(MOST_PANELS))
    series = [str(one) for one in dict.fromkeys(table["series"])]
    headings = {"series": "Configuration", **COSINE}
    width = 210
    chart = (
        cosine_map(alt.Chart(rows()), headings, table)
        .properties(width=width, height=width)
        .facet(facet=alt.Facet("series:N", title=None, sort=series), columns=3, spacing=18)
        .resolve_axis(x="independent")
    )
    best = table.loc[table.groupby(["series", "j"], sort=False)["cosine"].idxmax()]
    said = [
        f"{one}: the tuned vectors' largest shown |cosine| is between {numbers.decimal(group['cosine'].min(), 2)} and "
        f"{numbers.decimal(group['cosine'].max(), 2)}"
        for one, group in best.groupby("series", sort=False)
    ]
    return Figure(
        identity="similarity",
        title=f"Similarity of leading singular vectors: {name}",
        shows=f"|cosine| between the leading left singular vectors of {name} before (rows) and after fine-tuning "
        "(columns), index from 0 by decreasing singular value; one panel per configuration, its first seed. An "
        "intruder is a column that is dark from top to bottom.",
        caveat="Only leading pre-trained vectors are drawn: a dark column may still resemble one further down, which "
        "the count takes into account. One matrix is not the model.",
        alternative=listed(said),
        chart=chart,
        table=table[list(headings)],
        headings=headings,
        panel=width + 20,
        beside=90,
    )
