"""How the number of intruders depends on epsilon and k, with the line of a random direction."""

import altair as alt

from spectra.records.counts import EPSILONS, counts_by_epsilon, counts_by_k, random_direction_cosine
from spectra.report.figures.control_curves import (
    TRAINED,
    beside,
    control_counts,
    control_lines,
    said_of_controls,
    shown_of_controls,
    words_at_the_end,
    words_on_the_rise,
)
from spectra.report.figures.figure import (
    Figure,
    colour_of_label,
    constants,
    dash_of_label,
    fields,
    labelled,
    listed,
    page_wide,
    rows,
)
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers


def count_against_epsilon(material: Material) -> Figure | None:
    """Intruder count against epsilon, with the random-direction line."""
    vectors = material.tables["vectors"]
    trials = material.chosen
    vectors = vectors[vectors["trial"].isin(trials["trial"])].dropna(subset=["lower", "upper"])
    if vectors.empty:
        return None
    epsilon = float(trials["epsilon"].iloc[0])
    grid = sorted({*EPSILONS, epsilon})
    own = labelled(counts_by_epsilon(vectors, ["trial"], grid), trials)
    open_verdicts = bool((own["at_most"] > own["count"]).any())
    controls = control_counts(material, lambda some, by: counts_by_epsilon(some, by, grid), "epsilon")
    table = beside(own, controls)
    headings = {
        "series": "Configuration",
        **({} if controls is None else {"update": "Update"}),
        "epsilon": "ε",
        "count": "Intruder dimensions, proven",
        "at_most": "At most",
        "vectors": "Vectors looked at",
    }
    x = alt.X("epsilon:Q", title="ε (largest |cosine| below which a vector counts)", scale=alt.Scale(domain=[0, 1]))
    ceiling = int(table["at_most"].max())  # of controls too: they count every vector at ε = 1
    steps = [step for power in range(7) for step in (10**power, 2 * 10**power, 5 * 10**power) if step <= ceiling]
    y = alt.Y(
        "count:Q",
        title="Intruder dimensions (number, log-like scale)",
        scale=alt.Scale(type="symlog", constant=1, domain=[0, max(1, ceiling)]),
        axis=alt.Axis(values=[0, *steps], format="d"),
    )
    colour = colour_of_label(trials, lines=True)
    base = alt.Chart(rows()).transform_filter(f"datum.update === '{TRAINED}'")
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
    if controls is not None:
        layers[-1:-1] = control_lines(table, headings, x, y, colour)
        layers.append(words_on_the_rise(controls, "epsilon", float(ceiling)))
    if open_verdicts:
        layers.insert(
            0,
            base.mark_area(opacity=0.18).encode(x=x, y=y, y2="at_most:Q", color=colour, detail="trial:N"),
        )
    at = own[own["epsilon"] == epsilon]
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
        f"expected of a random direction ({span(cosines)}). To the right of them, a random direction counts."
        f"{shown_of_controls(controls)}",
        caveat="The place of ε is a convention: only the distance between the curves is a finding.",
        alternative=listed(said) + said_of_controls(controls, "epsilon", epsilon),
        chart=page_wide(alt.layer(*layers), 300),
        table=table[list(dict.fromkeys(["trial", "label", "update", *headings]))],
        headings=headings,
    )


def count_against_k(material: Material) -> Figure | None:
    """Intruder count against how many leading vectors are looked at."""
    trials = material.chosen
    vectors = material.tables["vectors"]
    vectors = vectors[vectors["trial"].isin(trials["trial"])].dropna(subset=["is_intruder"])
    if vectors.empty:
        return None
    own = labelled(counts_by_k(vectors, ["trial"]), trials)
    if own["count"].max() == 0:
        return None
    controls = control_counts(material, counts_by_k, "k")
    table = beside(own, controls)
    headings = {
        "series": "Configuration",
        **({} if controls is None else {"update": "Update"}),
        "k": "k",
        "count": "Intruder dimensions",
        "vectors": "Vectors looked at",
    }
    x = alt.X("k:Q", title="k (leading vectors looked at in each matrix)", axis=alt.Axis(tickMinStep=1))
    y = alt.Y("count:Q", title="Intruder dimensions (number)", axis=alt.Axis(tickMinStep=1))
    colour = colour_of_label(trials, lines=True)
    chart = (
        alt.Chart(rows())
        .transform_filter(f"datum.update === '{TRAINED}'")
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=36))
        .encode(
            x=x,
            y=y,
            color=colour,
            strokeDash=dash_of_label(trials),
            detail="trial:N",
            tooltip=fields(headings, table),
        )
    )
    if controls is not None:
        words = words_at_the_end(controls, "k", float(table["count"].max()))
        chart = alt.layer(*control_lines(table, headings, x, y, colour), chart, *words)
    largest = int(own["k"].max())
    said = [f"{r['series']}: {r['count']} at k = {r['k']}" for _, r in own[own["k"] == largest].iterrows()]
    return Figure(
        identity="count-k",
        title="Intruder dimensions against k",
        shows="How the count grows as more leading vectors of each matrix are looked at, at the scan's ε."
        f"{shown_of_controls(controls)}",
        caveat="Far down the spectrum neighbouring singular values nearly coincide, and single vectors turn within "
        "their cluster: there a count says less.",
        alternative=listed(said) + said_of_controls(controls, "k", float(largest)),
        chart=page_wide(chart, 260),
        table=table[list(dict.fromkeys(["trial", "label", "update", *headings]))],
        headings=headings,
        wide=False,
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
    return numbers.ends(low, high) + ("" if low == high else ", by matrix size")
