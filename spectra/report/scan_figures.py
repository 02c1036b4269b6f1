"""The figures of one checkpoint: the map of its matrices, and what is behind each cell."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import altair as alt

from spectra.report.figure import COLOURS, FULL_COLOUR, LEGEND, Figure, constants, fields, listed, page_wide, rows
from spectra.report.map_figures import COSINE, cosine_map, layer_axis, place
from spectra.report.sources import Material
from spectra.report.threshold_figures import random_cosines, random_rules, span

if TYPE_CHECKING:
    import pandas as pd

MATRIX = "matrix"
MEASURE = "measure"
MAP_MEASURES = {
    "count": "Intruder dimensions (number)",
    "energy_share": "Energy share of intruders (0 to 1)",
    "update_relative": "Relative norm ‖ΔW‖ / ‖W0‖",
    "update_effective_rank": "Effective rank of ΔW",
}
SPECTRA = {"W0": "W0 (pre-trained)", "W_tuned": "W_tuned", "delta_W": "ΔW (update)"}


def measures_of(matrices: "pd.DataFrame") -> Mapping[str, str]:
    """The measures that the map can be coloured by: those that every matrix has."""
    return {name: text for name, text in MAP_MEASURES.items() if matrices[name].notna().all()}


def layer_map(material: Material, opened: str) -> Figure | None:
    """The map of layers x roles; its colour follows the page's choice of measure, a click opens a matrix."""
    table = place(material.tables["matrices"])
    if table.empty:
        return None
    measures = measures_of(table)
    parts = [str(part) for part in dict.fromkeys(table["part"])]
    headings = {"name": "Matrix", "d_out": "Rows", "d_in": "Columns", **measures}
    measure = alt.param(name=MEASURE, value="count")
    chosen = alt.param(name=MATRIX, value=opened)
    is_chosen = f"datum.name === {MATRIX}"
    chart = (
        alt.Chart(rows())
        .transform_calculate(shown=f"datum[{MEASURE}]")
        .mark_rect(cursor="pointer", stroke="currentColor")
        .encode(
            x=alt.X("position:O", title="Layer", axis=layer_axis(table)),
            y=alt.Y("part:N", title=None, sort=parts),
            color=alt.condition(
                "datum.shown > 0",
                alt.Color(
                    "shown:Q",
                    title=None,
                    scale=alt.Scale(scheme="viridis", domainMin=0),
                    legend=alt.Legend(
                        orient="top",
                        gradientLength=220,
                        labelExpr=f"{MEASURE} === 'count' && datum.value % 1 ? '' : format(datum.value, '.3~r')",
                    ),
                ),
                alt.value("transparent"),
            ),
            strokeWidth=alt.condition(is_chosen, alt.value(2.5), alt.value(0.5)),
            strokeOpacity=alt.condition(is_chosen, alt.value(1), alt.value(0.18)),
            tooltip=fields(headings, table),
        )
        .add_params(measure, chosen)
    )
    worst = table.sort_values("count", ascending=False, kind="stable").head(8)
    said = [f"{row['name']}: {row['count']}" for _, row in worst.iterrows() if row["count"] > 0]
    return Figure(
        identity="layer-map",
        title="All matrices: layers by roles",
        shows="Columns are layers, rows are the roles of the matrices; colour is the measure chosen above, blank is "
        "zero. Point at a cell for its values; click it to open the matrix below.",
        caveat="Colour compares matrices of different sizes and update norms with each other.",
        alternative=f"The highest counts: {listed(said)}." if said else "Every matrix has a count of 0.",
        chart=page_wide(chart, 24 * len(parts)),
        table=table[[*headings, "layer", "role", "position", "part"]],
        headings=headings,
    )


def vector_bounds(material: Material, opened: str) -> Figure | None:
    """Largest |cosine| of each leading vector of the opened matrix."""
    vectors = material.tables["vectors"]
    if vectors.empty:
        return None
    table = vectors.assign(
        verdict=["intruder" if is_intruder else "not an intruder" for is_intruder in vectors["is_intruder"]],
        conditioning=[
            "ill-conditioned" if ill else "well-conditioned" for ill in vectors["ill_conditioned"].fillna(False)
        ],
    )
    headings = {
        "index": "Vector j",
        "side": "Side",
        "singular_value": "Singular value σ_j",
        "max_cosine": "Largest |cosine| found",
        "lower": "Lower bound",
        "upper": "Upper bound",
        "verdict": "Verdict",
        "decided_by": "Decided by",
        "conditioning": "Conditioning",
    }
    epsilon = float(material.tables["trials"]["epsilon"].iloc[0])
    cosines = random_cosines(material)
    both_sides = table["side"].nunique() > 1
    x = alt.X("index:O", title="Vector j (by decreasing singular value)", axis=alt.Axis(labelAngle=0))
    y = alt.Y("lower:Q", title="Largest |cosine| to a pre-trained vector", scale=alt.Scale(domain=[0, 1]))
    colour = alt.Color(
        "verdict:N",
        scale=alt.Scale(domain=["intruder", "not an intruder"], range=[FULL_COLOUR, COLOURS[0]]),
        legend=LEGEND,
    )
    shape = alt.Shape(
        "verdict:N", scale=alt.Scale(domain=["intruder", "not an intruder"], range=["triangle-up", "circle"])
    )
    offset = {"xOffset": alt.XOffset("side:N")} if both_sides else {}
    base = alt.Chart(rows()).transform_filter(f"datum.name === {MATRIX}")
    chart = alt.layer(
        *random_rules(cosines, "y"),
        alt.Chart(constants(epsilon=[epsilon])).mark_rule().encode(y="epsilon:Q"),
        alt.Chart(constants(epsilon=[epsilon], text=[f"ε = {epsilon:g}"]))
        .mark_text(align="right", dx=-4, dy=-6, x="width")
        .encode(y="epsilon:Q", text="text:N"),
        base.mark_rule(strokeWidth=5, opacity=0.4).encode(x=x, y=y, y2="upper:Q", color=colour, **offset),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x=x, y="max_cosine:Q", color=colour, shape=shape, tooltip=fields(headings, table), **offset
        ),
    ).add_params(alt.param(name=MATRIX, value=opened))
    return Figure(
        identity="vector-bounds",
        title="How much each leading vector resembles a pre-trained one",
        shows="The largest |cosine| found for each leading vector of the opened matrix; a bar spans the proven bounds "
        f"where they differ. Below ε it is an intruder. Dotted lines: a random direction ({span(cosines)})."
        + (" Left and right vectors stand side by side." if both_sides else ""),
        caveat="The largest single cosine: a vector spread over a few similar base vectors also scores low.",
        alternative="The table of vectors below holds every value.",
        chart=page_wide(chart, 270),
        table=table[["name", *headings]],
        headings=headings,
    )


def similarity_map(material: Material, opened: str) -> Figure | None:
    """|cosine| between leading vectors before and after, of the opened matrix."""
    table = material.details.get("similarity")
    if table is None or table.empty:
        return None
    opened_rows = alt.Chart(rows()).transform_filter(f"datum.name === {MATRIX}")
    chart = cosine_map(opened_rows, COSINE, table).add_params(alt.param(name=MATRIX, value=opened))
    return Figure(
        identity="similarity",
        title="Similarity of leading vectors before and after",
        shows="|cosine| between the leading left singular vectors before (rows) and after fine-tuning (columns) of the "
        "opened matrix. An intruder is a column that is dark from top to bottom.",
        caveat="Only leading pre-trained vectors are drawn; the count looks at all of them.",
        alternative="The data table holds every cosine.",
        chart=page_wide(chart, 300),
        table=table[["name", *COSINE]],
        headings=COSINE,
        wide=False,
        digits=3,
    )


def spectrum(material: Material, opened: str) -> Figure | None:
    """Singular values of W0, W_tuned and delta_W of the opened matrix."""
    table = material.details.get("spectra")
    if table is None or table.empty:
        return None
    table = table[table["value"] > 0].assign(part=[SPECTRA.get(str(kind), str(kind)) for kind in
                                                   table.loc[table["value"] > 0, "kind"]])  # fmt: skip
    parts = [part for part in SPECTRA.values() if part in set(table["part"])]
    headings = {"part": "Matrix", "index": "Index j", "value": "Singular value"}
    chart = (
        alt.Chart(rows())
        .transform_filter(f"datum.name === {MATRIX}")
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=20))
        .encode(
            x=alt.X("index:Q", title="Index j (by decreasing singular value)"),
            y=alt.Y("value:Q", title="Singular value (log scale)", scale=alt.Scale(type="log")),
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=parts, range=[COLOURS[6], COLOURS[0], FULL_COLOUR][: len(parts)]),
                legend=LEGEND,
            ),
            strokeDash=alt.StrokeDash("part:N", legend=None),
            tooltip=fields(headings, table),
        )
        .add_params(alt.param(name=MATRIX, value=opened))
    )
    return Figure(
        identity="spectrum",
        title="Singular values",
        shows="The spectrum of the opened matrix before and after, and of the update. An update whose leading value "
        "reaches the head of W0's spectrum can put a new direction among the leading vectors.",
        caveat="Singular values say nothing of the directions.",
        alternative="The data table holds every singular value.",
        chart=page_wide(chart, 270),
        table=table[["name", *headings]],
        headings=headings,
        wide=False,
        digits=4,
    )


def leading_similarity(table: "pd.DataFrame") -> "pd.DataFrame":
    """The maps cut to the leading 10 vectors on either side."""
    return table[(table["i"] < 10) & (table["j"] < 10)]


def sparse_spectra(table: "pd.DataFrame") -> "pd.DataFrame":
    """The spectra at the leading 10 indices, and at ever fewer beyond."""
    return table[table["index"].isin([*range(10), 12, 16, 20, 26, 32, 40, 50, 63])]


def fitting(table: "pd.DataFrame", order: list[str], most_rows: int) -> "tuple[pd.DataFrame, int]":
    """Keep whole matrices, in the given order, until `most_rows` are used up.

    Returns:
        The kept rows, and how many matrices were left out.
    """
    sizes = table.groupby("name").size()
    kept: list[str] = []
    total = 0
    for name in order:
        if name in sizes.index and total + sizes[name] <= most_rows:
            kept.append(name)
            total += int(sizes[name])
    return table[table["name"].isin(kept)], len(sizes) - len(kept)
