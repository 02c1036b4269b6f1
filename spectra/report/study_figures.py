"""A chart per question of a study: effects with their intervals, and the counts and losses behind them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import altair as alt

from spectra.records.looks import AXES, COLOURS
from spectra.report.figures.figure import (
    SHAPES,
    Figure,
    colour_of_label,
    constants,
    dash_of_label,
    fields,
    listed,
    page_wide,
    rows,
    shape_of_label,
)
from spectra.report.study_inputs import StudyMaterial
from spectra.report.tables import numbers

if TYPE_CHECKING:
    import pandas as pd

LOG = alt.Scale(type="log", nice=False, padding=14)
COUNTED = {
    "count": "trained",
    "control_count": "null control",
    "full_count": "full",
}
MOST = 40  # effects of one question that are drawn
# What was compared, and below it over which configuration and held-out task.
TWO_LINES = (
    "indexof(datum.label, ' · ') < 0 ? datum.label : "
    "[split(datum.label, ' · ')[0], join(slice(split(datum.label, ' · '), 1), ' · ')]"
)


def effects(material: StudyMaterial, question: str) -> tuple[Figure, ...]:
    """The effects of a question with their intervals, a figure for each unit; those that decide first."""
    table = material.tables["comparisons"]
    table = table[(table["question"] == question) & table["value"].notna()].head(MOST).copy()
    if table.empty:
        return ()
    table["what"] = [_named(row) for row in table.to_dict("records")]
    table["weight"] = ["decides" if decides else "beside it" for decides in table["decides"].astype(bool)]
    level = float(material.record["each_level"])
    return tuple(
        _effects_in(str(unit), rows_of_it, f"study-{question}-effects{f'-{number}' if number else ''}", level)
        for number, (unit, rows_of_it) in enumerate(table.groupby("unit", sort=False))
    )


def _effects_in(unit: str, table: "pd.DataFrame", identity: str, level: float) -> Figure:
    """Effects of one unit on one axis."""
    headings = {
        "what": "Comparison", "value": "Effect", "low": "Lower end", "high": "Upper end", "unit": "Unit",
        "seeds": "Seeds", "settings": "Settings", "finding": "Finding",
    }  # fmt: skip
    table = table[[*headings, "weight"]]
    names = list(dict.fromkeys(table["what"]))
    base = alt.Chart(rows())
    y = alt.Y("what:N", sort=names, title=None, axis=alt.Axis(labelLimit=520, labelExpr=TWO_LINES))
    legend = alt.Legend(title=None, orient="bottom", symbolType="circle", symbolFillColor="currentColor")
    shade = alt.Opacity("weight:O", scale=alt.Scale(domain=["decides", "beside it"], range=[1.0, 0.45]), legend=legend)
    layers = alt.layer(
        alt.Chart(constants(zero=[0])).mark_rule(strokeDash=[4, 3]).encode(x="zero:Q"),
        base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=unit), x2="high:Q", y=y, opacity=shade),
        base.mark_point(filled=True, size=70).encode(x="value:Q", y=y, opacity=shade, tooltip=fields(headings, table)),
    )
    told = [f"{one['what']}: {numbers.compact(one['value'])} {one['finding']}" for one in table.to_dict("records")]
    return Figure(
        identity=identity,
        title=f"Effects with their intervals ({unit})",
        shows=f"Each point is an effect, each line its {level:.4g} interval; dark ones decide the verdict.",
        caveat="An effect without an interval has no line.",
        alternative=listed(told),
        chart=page_wide(layers, 32 * len(names) + 10),
        table=table,
        headings=headings,
    )


def counts_beside_controls(material: StudyMaterial) -> Figure | None:
    """Of question a: every adapter's count, its null control, and full fine-tuning at equal score and norm."""
    import pandas as pd

    found = []
    for (label, kind), group in material.tables["matches"].groupby(["label", "matched_on"], sort=False):
        for column, what in COUNTED.items():
            if column == "full_count" or kind == "score":
                shown = f"{what} at equal {kind}" if column == "full_count" else what
                found.append({"label": label, "what": shown, "count": float(group[column].mean())})
    table = pd.DataFrame(found).dropna() if found else pd.DataFrame()
    if table.empty:
        return None
    headings = {"label": "Configuration", "what": "Update", "count": "Intruder dimensions (mean over seeds)"}
    names = list(dict.fromkeys(table["what"]))
    legend = alt.Legend(orient="bottom", title=None)
    chart = (
        alt.Chart(rows())
        .mark_point(filled=True, size=90)
        .encode(
            x=alt.X("count:Q", title=AXES["count"], scale=_from_zero_to_one_at_least(table["count"])),
            y=alt.Y("label:N", sort=list(dict.fromkeys(table["label"])), title=None),
            shape=alt.Shape("what:N", scale=alt.Scale(domain=names, range=SHAPES[: len(names)]), legend=legend),
            color=alt.Color("what:N", scale=alt.Scale(domain=names, range=COLOURS[: len(names)]), legend=legend),
            tooltip=fields(headings, table),
        )
    )
    return Figure(
        identity="study-a-counts",
        title="Counts beside their controls",
        shows="Intruder dimensions of each adapter at its chosen learning rate, of a random update of the same norm "
        "and rank (null control), and of full fine-tuning, interpolated between its learning rates to the same "
        "validation score and to the same norm.",
        caveat="Where no learning rate of full fine-tuning reaches the adapter's score or norm, its mark is absent.",
        alternative=listed(
            [f"{one['label']}, {one['what']}: {numbers.compact(one['count'])}" for one in table.to_dict("records")]
        ),
        chart=page_wide(chart, 34 * table["label"].nunique() + 10),
        table=table[list(headings)],
        headings=headings,
    )


def counts_against_rate(material: StudyMaterial) -> Figure | None:
    """Of question b: the count against the learning rate, the chosen one marked."""
    trials = material.used
    if trials.empty or trials.groupby("label")["learning_rate"].nunique().max() < 2:
        return None
    grouped = trials.groupby(["label", "method", "learning_rate"], sort=False)
    table = grouped.agg(
        count=("count", lambda values: float(values.astype(float).mean())),
        control=("control_count", lambda values: float(values.astype(float).mean())),
        chosen=("chosen", "any"),
        seeds=("seed", "nunique"),
    ).reset_index()
    headings = {
        "label": "Configuration", "learning_rate": "Learning rate", "count": "Intruder dimensions",
        "control": "Of the null control", "seeds": "Seeds",
    }  # fmt: skip
    base = alt.Chart(rows()).encode(
        x=alt.X("learning_rate:Q", scale=LOG, title="Learning rate"),
        y=alt.Y("count:Q", title=AXES["count"], scale=_from_zero_to_one_at_least(table["count"])),
        color=colour_of_label(trials),
    )
    layers = alt.layer(
        base.mark_line().encode(strokeDash=dash_of_label(trials)),
        base.mark_point(filled=True, size=45).encode(tooltip=fields(headings, table)),
        base.transform_filter("datum.chosen").mark_point(size=230, strokeWidth=2),
    )
    return Figure(
        identity="study-b-rates",
        title="Count against learning rate",
        shows="The mean count over seeds at every learning rate; the one that validation chose has a ring.",
        caveat="Ranks differ in the norm of the update too, which the figure does not hold fixed.",
        alternative=listed(
            [
                f"{one['label']} at {numbers.exact(one['learning_rate'])}: {numbers.compact(one['count'])}"
                for one in table.to_dict("records")
            ]
        ),
        chart=page_wide(layers, 320),
        table=table[[*headings, "method", "chosen"]],
        headings=headings,
    )


def forgetting_beside_norm(material: StudyMaterial) -> Figure | None:
    """Of question c: forgetting against the norm of the update, the size of a mark is the share of intruders."""
    primary = material.record["primary"]
    lost = material.tables["forgetting"]
    trials = material.used.merge(lost[lost["heldout"] == primary][["trial", "forgetting", "unit"]], on="trial")
    trials = trials[trials["update_relative"] > 0]
    if trials.empty:
        return None
    trials = trials.assign(share=100 * trials["count"].astype(float) / trials["slots"].astype(float))
    grouped = trials.groupby(["label", "method", "learning_rate"], sort=False)
    table = grouped[["share", "update_relative", "forgetting"]].mean().reset_index()
    unit = str(trials["unit"].iloc[0])
    headings = {
        "label": "Configuration", "learning_rate": "Learning rate", "update_relative": AXES["update_relative"],
        "share": "Intruders (% of vectors looked at)", "forgetting": f"Forgetting of {primary} ({unit})",
    }  # fmt: skip
    chart = (
        alt.Chart(rows())
        .mark_point(filled=True, opacity=0.8)
        .encode(
            x=alt.X("update_relative:Q", scale=LOG, title=AXES["update_relative"]),
            y=alt.Y("forgetting:Q", title=f"Forgetting ({unit})"),
            size=alt.Size(
                "share:Q", title=headings["share"], scale=alt.Scale(range=[30, 500]), legend=alt.Legend(orient="bottom")
            ),
            color=colour_of_label(trials),
            shape=shape_of_label(trials),
            tooltip=fields(headings, table),
        )
    )
    return Figure(
        identity="study-c-forgetting",
        title="Forgetting, norm and intruders",
        shows="Every configuration at every learning rate, averaged over seeds: forgetting against the norm of the "
        "update; the larger the mark, the more intruder dimensions.",
        caveat="An association is no cause: interventions are what tells whether the intruders do the harm.",
        alternative=listed(
            [
                f"{one['label']}: norm {numbers.compact(one['update_relative'])}, "
                f"forgetting {numbers.compact(one['forgetting'])}, intruders {numbers.compact(one['share'])} %"
                for one in table.to_dict("records")
            ]
        ),
        chart=page_wide(chart, 320),
        table=table[[*headings, "method"]],
        headings=headings,
    )  # fmt: skip


def front_figure(material: StudyMaterial) -> Figure | None:
    """Of question f: test score against forgetting, with the intervals of both."""
    table = material.tables["front"].dropna(subset=["score", "forgetting"])
    if table.empty:
        return None
    headings = {
        "label": "Configuration", "score": "Test score", "forgetting": f"Forgetting of {material.record['primary']}",
        "count": AXES["count"], "stands": "Where it stands",
    }  # fmt: skip
    ends = ["score_low", "score_high", "forgetting_low", "forgetting_high"]
    base = alt.Chart(rows()).encode(color=colour_of_label(table))
    x = alt.X("forgetting:Q", title=headings["forgetting"], scale=alt.Scale(zero=False))
    y = alt.Y("score:Q", title="Test score", scale=alt.Scale(zero=False))
    layers = alt.layer(
        base.mark_rule(opacity=0.5).encode(x=alt.X("forgetting_low:Q"), x2="forgetting_high:Q", y=y),
        base.mark_rule(opacity=0.5).encode(y=alt.Y("score_low:Q"), y2="score_high:Q", x=x),
        base.mark_point(filled=True, size=90).encode(
            x=x, y=y, shape=shape_of_label(table), tooltip=fields(headings, table)
        ),
    )
    return Figure(
        identity="study-f-front",
        title="Task score against forgetting",
        shows="Each mark is a configuration at its chosen learning rate, with the intervals over seeds: the upper left "
        "is where one wants to be.",
        caveat="Intervals of single means overlap more than those of differences paired by seed, which the table rests "
        "on.",
        alternative=listed(
            [
                f"{one['label']}: score {numbers.compact(one['score'])}, forgetting "
                f"{numbers.compact(one['forgetting'])}, {one['stands']}"
                for one in table.to_dict("records")
            ]
        ),
        chart=page_wide(layers, 340),
        table=table[[*headings, "method", *ends]],
        headings=headings,
    )


DRAWN = {"a": counts_beside_controls, "b": counts_against_rate, "c": forgetting_beside_norm}


def figures_of(material: StudyMaterial, question: str) -> tuple[Figure, ...]:
    """The charts of a question."""
    own = DRAWN[question](material) if question in DRAWN else None
    return (*([own] if own is not None else []), *effects(material, question))


def _named(row: Mapping[Any, Any]) -> str:
    over = "" if row["over"] == "all" else f" · {row['over']}"
    heldout = f" · {row['heldout']}" if row["heldout"] else ""
    return f"{row['name']}{over}{heldout}"


def _from_zero_to_one_at_least(counts: "pd.Series") -> Any:
    """A scale on which a small part of one intruder looks small."""
    return alt.Scale(domainMax=1) if len(counts) and counts.max() < 1 else alt.Undefined
