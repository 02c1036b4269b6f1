"""What is behind one cell of the map: the vectors of the opened matrix, their cosines and the singular values."""

import altair as alt

from spectra.records.counts import primary_side, random_direction_cosine
from spectra.records.looks import COLOURS, FULL_COLOUR
from spectra.report.figures.figure import FEW_LOG_LABELS, LEGEND, LINES, Figure, constants, fields, page_wide, rows
from spectra.report.figures.map import COSINE, cosine_map
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers

MATRIX = "matrix"
INTRUDER, NORMAL, LEAST = "intruder", "not an intruder", "least similar vector"
DASHES = {INTRUDER: [1, 0], LEAST: [6, 3], NORMAL: [2, 2]}
SPECTRA = {"W0": "W0 (pre-trained)", "W_tuned": "W_tuned", "delta_W": "ΔW (update)"}


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
    shapes = material.tables["matrices"].set_index("name")[["d_out", "d_in"]]
    chance = {
        name: random_direction_cosine(int(d_out), int(min(d_out, d_in)))
        for name, d_out, d_in in shapes.itertuples()
        if not (numbers.absent(d_out) or numbers.absent(d_in))
    }
    table["chance"] = [chance.get(name) for name in table["name"]]
    both_sides = table["side"].nunique() > 1
    x = alt.X("index:O", title="Vector j (by decreasing singular value)", axis=alt.Axis(labelAngle=0))
    y = alt.Y("lower:Q", title="Largest |cosine| to a pre-trained vector", scale=alt.Scale(domain=[0, 1]))
    colour = alt.Color(
        "verdict:N",
        scale=alt.Scale(domain=[INTRUDER, NORMAL], range=[FULL_COLOUR, COLOURS[0]]),
        legend=LEGEND,
    )
    shape = alt.Shape(
        "verdict:N", scale=alt.Scale(domain=["intruder", "not an intruder"], range=["triangle-up", "circle"])
    )
    offset = {"xOffset": alt.XOffset("side:N")} if both_sides else {}
    base = alt.Chart(rows()).transform_filter(f"datum.name === {MATRIX}")
    chart = alt.layer(
        base.mark_rule(strokeDash=[1, 3], strokeWidth=1.5).encode(y="mean(chance):Q"),
        base.mark_text(align="left", dx=4, dy=-6, x=0).encode(y="mean(chance):Q", text=alt.value("random direction")),
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
        "where they differ. Below ε it is an intruder. Dotted line: what a random direction reaches in this matrix."
        + (" Left and right vectors stand side by side." if both_sides else ""),
        caveat="The largest single cosine: a vector spread over a few similar base vectors also scores low.",
        alternative="The table of vectors below holds every value.",
        chart=page_wide(chart, 270),
        table=table[["name", *headings, "chance"]],
        headings={**headings, "chance": "Random direction"},
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


def cosine_profiles(material: Material, opened: str) -> Figure | None:
    """|cosine| of every intruder of the opened matrix to the leading pre-trained vectors, beside one that is none."""
    import pandas as pd

    similarity = material.details.get("similarity")
    if similarity is None or similarity.empty:
        return None
    vectors = primary_side(material.tables["vectors"])
    intruding = vectors["is_intruder"].astype(bool)
    intruders = vectors[intruding]
    others = vectors[~vectors["name"].isin(intruders["name"])]
    least = others.sort_values("max_cosine", kind="stable").drop_duplicates("name")
    normal = vectors[~intruding & ~vectors.index.isin(least.index)].drop_duplicates("name")
    drawn = pd.concat([intruders.assign(kind=INTRUDER), least.assign(kind=LEAST), normal.assign(kind=NORMAL)])
    table = similarity.merge(drawn[["name", "index", "kind"]], left_on=["name", "j"], right_on=["name", "index"])
    if table.empty:
        return None
    colours = {INTRUDER: FULL_COLOUR, LEAST: COLOURS[2], NORMAL: COLOURS[0]}
    kinds = [kind for kind in colours if kind in set(table["kind"])]
    headings = {"j": "Tuned vector j", "kind": "Verdict", "i": "Pre-trained vector i", "cosine": "|cosine|"}
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[colours[kind] for kind in kinds]), legend=LINES)
    chart = (
        alt.Chart(rows())
        .transform_filter(f"datum.name === {MATRIX}")
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=30))
        .encode(
            # A fixed extent: a matrix without intruders has no rows to take one from.
            x=alt.X(
                "i:Q",
                title="Pre-trained vector i",
                scale=alt.Scale(domain=[0, int(table["i"].max())]),
                axis=alt.Axis(tickMinStep=1),
            ),
            y=alt.Y("cosine:Q", title="|cosine|", scale=alt.Scale(domain=[0, 1])),
            color=colour,
            strokeDash=alt.StrokeDash(
                "kind:N",
                scale=alt.Scale(domain=kinds, range=[DASHES[kind] for kind in kinds]),
                legend=LINES,
            ),
            detail="j:N",
            tooltip=fields(headings, table),
        )
        .add_params(alt.param(name=MATRIX, value=opened))
    )
    return Figure(
        identity="cosine-profiles",
        title="Cosine profiles of intruders and others",
        shows="|cosine| of every intruder of the opened matrix to the leading pre-trained vectors, beside its first "
        "vector that is none: that one has a peak, an intruder has not. Without an intruder, the least similar vector.",
        caveat="Pre-trained vectors further down are not drawn; the count looks at all of them.",
        alternative="The data table holds every cosine.",
        chart=page_wide(chart, 270),
        table=table[["name", *headings]],
        headings=headings,
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
            y=alt.Y(
                "value:Q",
                title="Singular value (log scale)",
                # The extent of the opened matrix: the smallest value of another one may lie decades below.
                scale=alt.Scale(type="log", nice=True),
                axis=alt.Axis(labelExpr=FEW_LOG_LABELS),
            ),
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=parts, range=[COLOURS[6], COLOURS[0], FULL_COLOUR][: len(parts)]),
                legend=LINES,
            ),
            strokeDash=alt.StrokeDash(
                "part:N", scale=alt.Scale(domain=parts, range=[[1, 0], [6, 3], [2, 2]][: len(parts)]), legend=LINES
            ),
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
