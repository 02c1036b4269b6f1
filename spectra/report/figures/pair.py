"""Figures of the pairs: each adapter beside the full fine-tuning of the same seed, at equal budget, score or norm."""

import altair as alt

from spectra.report.figures.figure import (
    Figure,
    colour_of_label,
    constants,
    fields,
    listed,
    page_wide,
    rows,
)
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers

MATCHED = {"budget": "equal budget", "score": "matched score", "norm": "matched norm"}


def pair_figure(material: Material, heldout: str) -> Figure | None:
    """Forgetting of the adapter against that of the full fine-tuning beside it."""
    table = material.tables["pairs"]
    table = table[(table["heldout"] == heldout) & table["forgetting"].notna() & table["full_forgetting"].notna()]
    if table.empty:
        return None
    table = table.assign(matched=[MATCHED.get(str(one), str(one)) for one in table["matched_on"]])
    unit = _unit(material, heldout)
    headings = {
        "label": "Configuration",
        "seed": "Seed",
        "matched": "Paired at",
        "gap": "What is left of the difference",
        "forgetting": f"Forgetting of the adapter ({unit})",
        "full_forgetting": f"Forgetting of full fine-tuning ({unit})",
        "score": "Validation score of the adapter",
        "full_score": "Validation score of full fine-tuning",
        "count": "Intruder dimensions of the adapter",
        "full_count": "Intruder dimensions of full fine-tuning",
    }
    kinds = [kind for kind in MATCHED.values() if kind in set(table["matched"])]
    low = min(0.0, float(min(table["forgetting"].min(), table["full_forgetting"].min())))
    high = float(max(table["forgetting"].max(), table["full_forgetting"].max()))
    margin = 0.06 * (high - low or 1.0)
    beyond = alt.Scale(domain=[low - margin if low < 0 else low, high + margin], nice=False)  # whole marks
    shape = alt.Shape(
        "matched:N",
        scale=alt.Scale(domain=kinds, range=["circle", "square", "diamond"][: len(kinds)]),
        legend=alt.Legend(orient="top", title=None),
    )
    adapters = list(dict.fromkeys(table["label"]))
    legend = alt.Legend(orient="bottom", title=None, symbolLimit=40, symbolOpacity=1, values=adapters)
    chart = alt.layer(
        alt.Chart(constants(x=[low], y=[low], x2=[high], y2=[high]))
        .mark_rule(strokeDash=[4, 3], opacity=0.6)
        .encode(x="x:Q", y="y:Q", x2="x2:Q", y2="y2:Q"),
        alt.Chart(rows())
        .mark_point(size=110, strokeWidth=2, opacity=0.95)
        .encode(
            x=alt.X("full_forgetting:Q", title=f"Full fine-tuning ({unit} forgotten)", scale=beyond),
            y=alt.Y("forgetting:Q", title=f"Adapter ({unit} forgotten)", scale=beyond),
            color=colour_of_label(material.chosen, legend=legend),
            shape=shape,
            tooltip=fields(headings, table),
        ),
    )
    more = table["forgetting"] > table["full_forgetting"]
    said = [
        f"{row['label']}, {row['matched']}: {numbers.signed(row['forgetting'])} against "
        f"{numbers.signed(row['full_forgetting'])}"
        for _, row in table.iterrows()
    ]
    return Figure(
        identity=f"pairs-{_position(material, heldout)}",
        title=f"Forgetting on {heldout}, adapter against full fine-tuning",
        shows="Every adapter beside a full fine-tuning of the same seed: at equal budget (both at their chosen "
        "learning rates), and beside the one of any learning rate whose validation score, or whose update's norm, is "
        f"closest. Above the dashed line the adapter forgot more: {int(more.sum())} of {len(table)} pairs.",
        caveat="A match is as good as the grid of learning rates: the data table says what is left. Points have no "
        "intervals here; those of each trial stand in the table of forgetting.",
        alternative=listed(said),
        chart=page_wide(chart, 280),
        table=table[[*headings]],
        headings=headings,
        wide=False,
    )


def _unit(material: Material, heldout: str) -> str:
    forgetting = material.tables["forgetting"]
    units = forgetting.loc[forgetting["heldout"] == heldout, "unit"]
    return str(units.iloc[0]) if len(units) else "loss"


def _position(material: Material, heldout: str) -> int:
    return list(dict.fromkeys(material.tables["pairs"]["heldout"])).index(heldout)
