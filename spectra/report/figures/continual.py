"""Figures of tasks learnt one after the other: what each step leaves of the earlier tasks, and how intruders add up."""

from typing import TYPE_CHECKING

import altair as alt

from spectra.records.looks import COLOURS
from spectra.report.figures.figure import Figure, fields, labelled, lines_of_trials, listed, page_wide, rows
from spectra.report.inputs.material import Material
from spectra.report.inputs.subject import plain_name
from spectra.report.tables import numbers

if TYPE_CHECKING:
    import pandas as pd

STEP = "Tasks learnt so far (number)"


def scores_of_all_tasks(material: Material) -> Figure | None:
    """Loss of score on every earlier task, step by step."""
    table = labelled(material.tables["continual"], material.chosen)
    table = table[table["lost"].notna()]
    if table.empty:
        return None
    table = table.assign(task_name=[plain_name(str(task)) for task in table["task"]])
    headings = {
        "series": "Configuration",
        "step": STEP,
        "task_name": "Measured task",
        "score": f"Score now ({table['metric'].iloc[0]}, validation)",
        "lost": "Lost since it was learnt",
        "examples": "Examples",
    }
    series = [str(name) for name in dict.fromkeys(table["series"])]
    width = 250
    legend = alt.Legend(orient="top", title=None, columns=3)
    chart = (
        alt.Chart(rows())
        .mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=36))
        .encode(
            x=alt.X("step:Q", title=STEP, axis=_whole_steps(table)),
            y=alt.Y("lost:Q", title="Score lost since it was learnt"),
            color=alt.Color("task_name:N", scale=alt.Scale(range=list(COLOURS)), legend=legend),
            strokeDash=alt.StrokeDash("task_name:N", legend=legend),
            tooltip=fields(headings, table),
        )
        .properties(width=width, height=170)
        .facet(facet=alt.Facet("series:N", title=None, sort=series), columns=2, spacing=18)
    )
    last = table[table["step"] == table["step"].max()]
    said = [f"{row['series']}, {row['task_name']}: {numbers.signed(row['lost'])} lost" for _, row in last.iterrows()]
    return Figure(
        identity="continual-scores",
        title="What later tasks take from earlier ones",
        shows="Every line is one task of the sequence, from the step in which it was learnt; above zero its score has "
        "fallen since. One panel per chosen trial.",
        caveat="The order of the tasks is one of many, and validation splits are small: a task may also gain.",
        alternative=listed(said),
        chart=chart,
        table=table[list(headings)],
        headings=headings,
        panel=width + 40,
        beside=60,
    )


def _whole_steps(table: "pd.DataFrame") -> alt.Axis:
    """A label at every step; there is nothing between two of them."""
    return alt.Axis(values=sorted({int(step) for step in table["step"]}), format="d")


def count_over_tasks(material: Material) -> Figure | None:
    """Intruder dimensions against the original base, step by step."""
    table = labelled(material.tables["continual"], material.chosen).drop_duplicates(["trial", "step"])
    table = table[table["count_base"].notna()]
    if table.empty:
        return None
    table = table.assign(learnt_name=[plain_name(str(task)) for task in table["learnt"]])
    headings = {
        "series": "Configuration",
        "step": STEP,
        "learnt_name": "Task learnt",
        "count_base": "Intruder dimensions against the original base",
        "count_previous": "Against the weights before this step",
    }
    chart = lines_of_trials(
        material.chosen,
        alt.X("step:Q", title=STEP, axis=_whole_steps(table)),
        alt.Y("count_base:Q", title="Intruder dimensions (number)"),
        fields(headings, table),
        strokeWidth=2,
        point=alt.OverlayMarkDef(size=36),
    )
    said = [
        f"{name}: from {group['count_base'].iloc[0]} after the first task to {group['count_base'].iloc[-1]} after "
        f"{group['step'].iloc[-1]}"
        for name, group in table.sort_values("step", kind="stable").groupby("series", sort=False)
    ]
    return Figure(
        identity="continual-count",
        title="Intruder dimensions along the sequence of tasks",
        shows="Against the weights before the first task, after each task was learnt and merged; chosen trials.",
        caveat="Whether they do harm is another question: see what later tasks take from earlier ones.",
        alternative=listed(said),
        chart=page_wide(chart, 260),
        table=table[["trial", "label", *headings]],
        headings=headings,
    )
