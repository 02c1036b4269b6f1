"""The map of one checkpoint's matrices, and what of the curves behind its cells fits a page."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import altair as alt

from spectra.records.counts import primary_side
from spectra.report.figures.figure import Figure, fields, listed, page_wide, rows
from spectra.report.figures.map import layer_axis, place
from spectra.report.figures.matrix import MATRIX
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers
from spectra.report.text.phrases import highest

if TYPE_CHECKING:
    import pandas as pd

MEASURE = "measure"
MAP_MEASURES = {
    "count": "Intruder dimensions (number)",
    "energy_share": "Energy share of intruders (0 to 1)",
    "update_relative": "Relative norm ‖ΔW‖ / ‖W0‖",
    "update_effective_rank": "Effective rank of ΔW",
    "distance": "Least similar vector (1 − largest |cosine|)",
}


def map_table(material: Material) -> "pd.DataFrame":
    """The matrices with their cells, and how far the least similar vector of each is from its nearest."""
    vectors = primary_side(material.tables["vectors"])
    least = vectors.groupby("name", sort=False)["max_cosine"].min().to_dict()
    table = place(material.tables["matrices"])
    return table.assign(distance=[1 - least.get(name, float("nan")) for name in table["name"]])


def measures_of(matrices: "pd.DataFrame") -> Mapping[str, str]:
    """The measures that the map can be coloured by: those that every matrix has, and that are not zero everywhere.

    Without a single intruder the map begins with the least similar vectors.
    """
    shown = {name: text for name, text in MAP_MEASURES.items() if matrices[name].notna().all() and matrices[name].any()}
    order = sorted(shown, key=lambda name: name != "distance") if "count" not in shown else list(shown)
    return {name: shown[name] for name in order}


def layer_map(material: Material, opened: str) -> Figure | None:
    """The map of layers x roles; its colour follows the page's choice of measure, a click opens a matrix."""
    table = map_table(material)
    measures = measures_of(table) if len(table) else {}
    if not measures:
        return None
    parts = [str(part) for part in dict.fromkeys(table["part"])]
    headings = {"name": "Matrix", "d_out": "Rows", "d_in": "Columns", **measures}
    measure = alt.param(name=MEASURE, value=next(iter(measures)))
    chosen = alt.param(name=MATRIX, value=opened)
    is_chosen = f"datum.name === {MATRIX}"
    least = min(1, max(0, int(table["count"].max()) - 1))
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
                    # Blank is zero, so a count begins at one.
                    scale=alt.Scale(scheme="viridis", domainMin=alt.ExprRef(f"{MEASURE} === 'count' ? {least} : 0")),
                    legend=alt.Legend(
                        orient="top",
                        gradientLength=140,
                        labelExpr=f"{MEASURE} === 'count' && (datum.value % 1 || !datum.value) ? '' : "
                        "format(datum.value, '.3~r')",
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
        alternative=f"The highest counts: {listed(said)}." if said else f"Every count is 0. {_nearest(table)}",
        chart=page_wide(chart, 24 * len(parts)),
        table=table[[*headings, "layer", "role", "position", "part"]],
        headings=headings,
    )


def _nearest(table: "pd.DataFrame") -> str:
    """The matrix whose least similar vector is nearest to counting."""
    row = highest(table, "distance")
    return f"The least similar vector is in {row['name']}, largest |cosine| {numbers.decimal(1 - row['distance'])}."


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
