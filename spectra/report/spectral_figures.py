"""Figures of the verdicts over several trials: where intruders sit, and how their number depends on epsilon and k."""

from typing import TYPE_CHECKING, Any

import altair as alt

from spectra.counts import EPSILONS, counts_by_epsilon, counts_by_k, primary_side, random_direction_cosine
from spectra.errors import first_five
from spectra.report import numbers
from spectra.report.figure import Figure, colour_of_label, constants, dash_of_label, fields, listed, page_wide, rows
from spectra.report.sources import Material

if TYPE_CHECKING:
    import pandas as pd

OUTSIDE = -1
MOST_TICKS = 11
MOST_PANELS = 12


def place(matrices: "pd.DataFrame") -> "pd.DataFrame":
    """Add the cell of the layers x roles map: `position` (layer, -1 outside the blocks) and `part`.

    `part` is the role; where several matrices of a layer share a role, as in an encoder-decoder or among experts, it
    is the name with its layer number replaced by a star.
    """
    import re

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


def layer_maps(material: Material) -> Figure | None:
    """One layers x roles map per chosen trial: intruder counts, or how near to counting where there are none."""
    table = labelled(place(material.tables["matrices"]), material.chosen)
    if table.empty:
        return None
    vectors = primary_side(material.tables["vectors"])
    nearest = vectors.groupby(["trial", "name"])["upper"].min().rename("nearest").reset_index()
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
        "nearest": "Smallest of the largest |cosines|",
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
        else "colour is the largest |cosine| of its least similar leading vector: the vector that would count first if "
        "ε were raised. No cell has an intruder."
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
    """Colour of a count; none is blank."""
    return alt.condition(
        "datum.count > 0",
        alt.Color(
            "count:Q",
            title="Intruder dimensions (number; blank = none)",
            scale=alt.Scale(domain=[0, most], scheme="viridis"),
            legend=alt.Legend(orient="top", gradientLength=160, values=sorted({0, most // 2, most}), format="d"),
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


def count_against_epsilon(material: Material) -> Figure | None:
    """Intruder count against epsilon, with the random-direction line."""
    vectors = material.tables["vectors"]
    trials = material.chosen
    vectors = vectors[vectors["trial"].isin(trials["trial"])].dropna(subset=["lower", "upper"])
    if vectors.empty:
        return None
    epsilon = float(trials["epsilon"].iloc[0])
    table = labelled(counts_by_epsilon(vectors, ["trial"], sorted({*EPSILONS, epsilon})), trials)
    open_verdicts = bool((table["at_most"] > table["count"]).any())
    headings = {
        "series": "Configuration",
        "epsilon": "ε",
        "count": "Intruder dimensions, proven",
        "at_most": "At most",
        "vectors": "Vectors looked at",
    }
    x = alt.X("epsilon:Q", title="ε (largest |cosine| below which a vector counts)", scale=alt.Scale(domain=[0, 1]))
    ceiling = int(table["at_most"].max())
    steps = [step for power in range(7) for step in (10**power, 2 * 10**power, 5 * 10**power) if step <= ceiling]
    y = alt.Y(
        "count:Q",
        title="Intruder dimensions (number, log-like scale)",
        scale=alt.Scale(type="symlog", constant=1, domain=[0, max(1, ceiling)]),
        axis=alt.Axis(values=[0, *steps], format="d"),
    )
    colour = colour_of_label(trials)
    base = alt.Chart(rows())
    cosines = random_cosines(material)
    layers = [
        *random_rules(cosines),
        alt.Chart(constants(epsilon=[epsilon], text=[f"ε = {epsilon:g}"]))
        .mark_rule(strokeWidth=1.2)
        .encode(x="epsilon:Q"),
        alt.Chart(constants(epsilon=[epsilon], text=[f"ε = {epsilon:g}"]))
        .mark_text(align="left", dx=4, dy=8, y=0)
        .encode(x="epsilon:Q", text="text:N"),
        base.mark_line(strokeWidth=2).encode(
            x=x, y=y, color=colour, strokeDash=dash_of_label(trials), detail="trial:N", tooltip=fields(headings, table)
        ),
    ]
    if open_verdicts:
        layers.insert(
            0,
            base.mark_area(opacity=0.18).encode(x=x, y=y, y2="at_most:Q", color=colour, detail="trial:N"),
        )
    at = table[table["epsilon"] == epsilon]
    said = [f"{row['series']}: {row['count']} at ε = {epsilon:g}" for _, row in at.iterrows()]
    band = (
        " A shaded band lies between what is proven and what is possible, where the scan did not have to decide."
        if open_verdicts
        else ""
    )
    return Figure(
        identity="count-epsilon",
        title="Intruder dimensions against the threshold ε",
        shows=f"How many leading vectors have a largest |cosine| below ε.{band} Dotted lines: the largest |cosine| "
        f"expected of a random direction ({span(cosines)}). To the right of them, a random direction counts.",
        caveat="The place of ε is a convention: only the distance between the curves is a finding.",
        alternative=listed(said),
        chart=page_wide(alt.layer(*layers), 300),
        table=table[["trial", "label", *headings]],
        headings=headings,
    )


def random_cosines(material: Material) -> list[float]:
    """Expected largest |cosine| of a random direction, for every shape of matrix, increasing."""
    shapes = material.tables["matrices"][["d_out", "d_in"]].dropna().drop_duplicates().astype(int)
    return sorted({random_direction_cosine(d_out, min(d_out, d_in)) for d_out, d_in in shapes.itertuples(index=False)})


def random_rules(cosines: list[float], axis: str = "x") -> list[alt.Chart]:
    """Dotted lines at the smallest and the largest of the expected cosines, and a word beside them."""
    if not cosines:
        return []
    ends = sorted({cosines[0], cosines[-1]})
    lines = alt.Chart(constants(cosine=ends)).mark_rule(strokeDash=[1, 3], strokeWidth=1.5)
    text = alt.Chart(constants(cosine=[cosines[-1]], text=["random direction"]))
    if axis == "x":
        return [
            lines.encode(x="cosine:Q"),
            text.mark_text(align="left", dx=4, dy=24, y=0).encode(x="cosine:Q", text="text:N"),
        ]
    return [
        lines.encode(y="cosine:Q"),
        text.mark_text(align="right", dx=-4, dy=-6, x="width").encode(y="cosine:Q", text="text:N"),
    ]


def span(cosines: list[float]) -> str:
    """The expected cosines as a range."""
    if not cosines:
        return "unknown"
    low, high = numbers.decimal(cosines[0]), numbers.decimal(cosines[-1])
    return low if low == high else f"{low} to {high}, by matrix size"


def count_against_k(material: Material) -> Figure | None:
    """Intruder count against how many leading vectors are looked at."""
    trials = material.chosen
    vectors = material.tables["vectors"]
    vectors = vectors[vectors["trial"].isin(trials["trial"])].dropna(subset=["is_intruder"])
    if vectors.empty:
        return None
    table = labelled(counts_by_k(vectors, ["trial"]), trials)
    if table["count"].max() == 0:
        return None
    headings = {
        "series": "Configuration",
        "k": "k",
        "count": "Intruder dimensions",
        "vectors": "Vectors looked at",
    }
    chart = (
        alt.Chart(rows())
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=36))
        .encode(
            x=alt.X("k:Q", title="k (leading vectors looked at in each matrix)", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y("count:Q", title="Intruder dimensions (number)", axis=alt.Axis(tickMinStep=1)),
            color=colour_of_label(trials),
            strokeDash=dash_of_label(trials),
            detail="trial:N",
            tooltip=fields(headings, table),
        )
    )
    largest = int(table["k"].max())
    said = [f"{r['series']}: {r['count']} at k = {r['k']}" for _, r in table[table["k"] == largest].iterrows()]
    return Figure(
        identity="count-k",
        title="Intruder dimensions against k",
        shows="How the count grows as more leading vectors of each matrix are looked at, at the scan's ε.",
        caveat="Far down the spectrum neighbouring singular values nearly coincide, and single vectors turn within "
        "their cluster: there a count says less.",
        alternative=listed(said),
        chart=page_wide(chart, 260),
        table=table[["trial", "label", *headings]],
        headings=headings,
        wide=False,
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
    headings = {"series": "Configuration", "i": "Pre-trained vector i", "j": "Tuned vector j", "cosine": "|cosine|"}
    width = 210
    chart = (
        alt.Chart(rows())
        .mark_rect()
        .encode(
            x=alt.X("j:O", title="Tuned vector j", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("i:O", title="Pre-trained vector i", axis=alt.Axis(labelOverlap=True)),
            color=alt.Color(
                "cosine:Q",
                title="|cosine|",
                scale=alt.Scale(domain=[0, 1], scheme="viridis"),
                legend=alt.Legend(orient="top", gradientLength=160),
            ),
            tooltip=fields(headings, table),
        )
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
