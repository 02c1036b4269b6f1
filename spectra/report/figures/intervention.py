"""Figures of interventions: forgetting and task score over lambda, for the intruders and for every control."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import altair as alt

from spectra.records.looks import COLOURS, FULL_COLOUR
from spectra.report.figures.figure import LEGEND, Figure, constants, fields, listed, page_wide, rows
from spectra.report.inputs.material import Material
from spectra.report.inputs.subject import plain_name
from spectra.report.tables import numbers

if TYPE_CHECKING:
    import pandas as pd

INTRUDERS, DECIDING = "intruders", "shrink"
ARMS = {
    INTRUDERS: "intruders",
    DECIDING: "shrink, same matrices",
    "shrink-all": "shrink, all matrices",
    "random": "random directions",
    "random-matched": "random directions, same norm",
    "neighbour": "pre-trained neighbours",
    "stand-in": "matrices without intruders",
}
SELECTED = {
    "top": "the highest-ranked intruder of each matrix",
    "all": "all intruders",
    "energy": "the fewest intruders that hold the share of their energy",
}
DASHES = ([1, 0], [6, 3], [8, 3, 2, 3], [2, 2], [1, 3], [4, 4], [10, 4])
HEADINGS = {
    "arm_text": "Arm",
    "factor": "λ",
    "forgetting": "Forgetting",
    "low": "Lower end",
    "high": "Upper end",
    "task_score": "Task score",
    "update_share": "Norm of the update, share of the tuned one's",
    "directions": "Directions scaled",
}


def intervention_figures(material: Material) -> tuple[Figure, ...]:
    """Two figures for every checkpoint and held-out task: forgetting over lambda, and against the task score."""
    return tuple(figure for number, part in enumerate(parts(material)) for figure in _figures(material, number, *part))


def parts(material: Material) -> "Iterator[tuple[str, str, pd.DataFrame]]":
    """Name of the checkpoint, held-out task, and their rows of the table of interventions."""
    table = material.tables["interventions"]
    named = table.assign(subject=subjects(material, table), arm_text=list(map(arm_in_words, table["arm"])))
    for (_, _, heldout), group in named.groupby(["trial", "checkpoint", "heldout"], sort=False):
        yield str(group["subject"].iloc[0]), str(heldout), group


def arm_in_words(arm: object) -> str:
    """What a reader calls an arm; one that is not known keeps its name."""
    return ARMS.get(str(arm), str(arm))


def subjects(material: Material, table: "pd.DataFrame") -> list[str]:
    """What a person calls the checkpoint of each row: its trial in words, or the end of its path."""
    trials = material.tables["trials"]
    labels = {
        str(trial): str(label) + ("" if numbers.absent(rate) else f" at {numbers.exact(rate)}")
        for trial, label, rate in zip(trials["trial"], trials["label"], trials["learning_rate"], strict=True)
    }
    return [
        labels.get(str(trial)) or "/".join(str(checkpoint).rstrip("/").split("/")[-2:])
        for trial, checkpoint in zip(table["trial"], table["checkpoint"], strict=True)
    ]


def _figures(material: Material, number: int, subject: str, heldout: str, table: "pd.DataFrame") -> Iterator[Figure]:
    yield _over_factor(number, subject, heldout, table, settings_of(material, table))
    if table["task_score"].notna().all():
        yield _against_score(number, subject, heldout, table)


def settings_of(material: Material, table: "pd.DataFrame") -> str:
    """Which intruders were scaled, and where that differs from the count of the same trial elsewhere on the page."""
    edit = material.edits.get(str(table["checkpoint"].iloc[0]))
    if not edit or "k" not in edit or "epsilon" not in edit:
        return ""
    which = SELECTED.get(str(edit.get("select")), "the intruders")
    said = f" Scaled: {which}, at k = {edit['k']} and ε = {edit['epsilon']:g}."
    trials = material.tables["trials"]
    own = trials[trials["trial"] == str(table["trial"].iloc[0])]
    if own.empty or numbers.absent(own["k"].iloc[0]):
        return said
    k, epsilon = int(own["k"].iloc[0]), float(own["epsilon"].iloc[0])
    if (k, epsilon) != (int(edit["k"]), float(edit["epsilon"])):
        said += f" The count of this trial elsewhere on the page is at k = {k} and ε = {epsilon:g}."
    return said


def _over_factor(number: int, subject: str, heldout: str, table: "pd.DataFrame", settings: str) -> Figure:
    """Forgetting over lambda, one curve per arm."""
    unit = table["unit"].iloc[0]
    headings = {**HEADINGS, "forgetting": f"Forgetting ({unit})"}
    x = alt.X("factor:Q", title="λ (1 = as tuned, 0 = removed)")
    y = alt.Y("forgetting:Q", title=f"Forgetting ({unit})", scale=alt.Scale(zero=False))
    base = alt.Chart(rows())
    deciding = f"datum.arm === '{INTRUDERS}' || datum.arm === '{DECIDING}'"
    chart = alt.layer(
        base.mark_area(opacity=0.18)
        .encode(x=x, y="low:Q", y2="high:Q", color=_colour(table))
        .transform_filter(deciding),
        alt.Chart(constants(factor=[1])).mark_rule(strokeDash=[1, 3]).encode(x="factor:Q"),
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=_colour(table), strokeDash=_dash(table)),
        base.mark_point(filled=True, size=45, opacity=1).encode(
            x=x, y=y, color=_colour(table), tooltip=fields(headings, table)
        ),
    )
    return Figure(
        identity=f"intervention-{number}",
        title=f"Forgetting on {heldout} with singular values scaled by λ: {subject}",
        shows="Each curve multiplies singular values by λ, in the loaded model, and measures it again, on "
        f"{numbers.count(table['n'].iloc[0])} examples. The controls shrink the update to the norm that scaling the "
        "intruders leaves, or scale as many other directions. Bands: 95 % interval of the intruders and of the shrink."
        f"{settings}",
        caveat="Where the intruders' curve lies on that of the shrink, they forget no more than any change of that "
        "size. A curve that forgets less may also have unlearned more: see the task score.",
        alternative=listed(
            [_over_factor_in_words(arm, group, unit) for arm, group in table.groupby("arm", sort=False)]
        ),
        chart=page_wide(chart, 300),
        table=table[["arm", *headings]],
        headings=_known(headings, table),
        wide=False,
    )


def _over_factor_in_words(arm: object, group: "pd.DataFrame", unit: str) -> str:
    """One curve at its ends and at 1."""
    ordered = group.sort_values("factor")
    shown = ordered.iloc[sorted({0, int((ordered["factor"] - 1).abs().to_numpy().argmin()), len(ordered) - 1})]
    points = ", ".join(
        f"{numbers.signed(row['forgetting'])} {unit} at λ = {numbers.exact(row['factor'])}"
        for _, row in shown.iterrows()
    )
    return f"{arm_in_words(arm)}: {points}"


def _against_score(number: int, subject: str, heldout: str, table: "pd.DataFrame") -> Figure:
    """Forgetting against the task score, one path per arm; all meet at lambda = 1."""
    unit, task = table["unit"].iloc[0], plain_name(str(table["task"].iloc[0]))
    score = f"{task}: {table['task_metric'].iloc[0]} (higher is better)"
    headings = {**HEADINGS, "forgetting": f"Forgetting ({unit})", "task_score": score}
    x = alt.X("forgetting:Q", title=f"Forgetting ({unit}; left is better)", scale=alt.Scale(zero=False))
    y = alt.Y("task_score:Q", title=score, scale=alt.Scale(zero=False))
    base = alt.Chart(rows())
    tuned = table[table["factor"] == 1].iloc[0]
    chart = alt.layer(
        base.mark_line(strokeWidth=2).encode(x=x, y=y, color=_colour(table), strokeDash=_dash(table), order="factor:Q"),
        base.mark_point(filled=True, size=45, opacity=1).encode(
            x=x, y=y, color=_colour(table), tooltip=fields(headings, table)
        ),
        alt.Chart(constants(x=[float(tuned["forgetting"])], y=[float(tuned["task_score"])], text=["as tuned"]))
        .mark_text(align="right", dx=-8, dy=-8)
        .encode(x="x:Q", y="y:Q", text="text:N"),
    )
    said = [
        f"{arm_in_words(arm)}: from score {numbers.compact(group.iloc[0]['task_score'])} with forgetting "
        f"{numbers.signed(group.iloc[0]['forgetting'])} at λ = {numbers.exact(group.iloc[0]['factor'])} to "
        f"{numbers.compact(group.iloc[-1]['task_score'])} with {numbers.signed(group.iloc[-1]['forgetting'])} at λ = "
        f"{numbers.exact(group.iloc[-1]['factor'])}"
        for arm, group in ((arm, rows_.sort_values("factor")) for arm, rows_ in table.groupby("arm", sort=False))
    ]
    return Figure(
        identity=f"intervention-score-{number}",
        title=f"Task score against forgetting on {heldout}, along λ: {subject}",
        shows="The same points by what they keep of the new task and what they forget; a path joins one edit from its "
        "smallest λ to its largest, and all meet in the model as it was tuned. Up and left is better.",
        caveat="Intervals are left out of the figure: they stand in the data table and in the table of contrasts.",
        alternative=listed(said),
        chart=page_wide(chart, 300),
        table=table[["arm", *headings]],
        headings=_known(headings, table),
        wide=False,
    )


def _known(headings: Mapping[str, str], table: "pd.DataFrame") -> dict[str, str]:
    """The headings of columns that have a value."""
    return {name: heading for name, heading in headings.items() if table[name].notna().any()}


def _arms(table: "pd.DataFrame") -> tuple[list[str], list[str]]:
    """The arms of a figure in words, and their colours: the same in every figure, the intruders' stands out."""
    present = set(table["arm"])
    colours = dict(zip(ARMS, (FULL_COLOUR, *COLOURS), strict=False))
    known = [arm for arm in ARMS if arm in present]
    others = [arm for arm in dict.fromkeys(table["arm"]) if arm not in ARMS]
    return [arm_in_words(arm) for arm in [*known, *others]], [
        colours.get(arm, COLOURS[-1]) for arm in [*known, *others]
    ]


def _colour(table: "pd.DataFrame") -> Any:
    names, colours = _arms(table)
    return alt.Color("arm_text:N", scale=alt.Scale(domain=names, range=colours), legend=LEGEND)


def _dash(table: "pd.DataFrame") -> Any:
    names, _ = _arms(table)
    patterns = [DASHES[position % len(DASHES)] for position in range(len(names))]
    return alt.StrokeDash("arm_text:N", scale=alt.Scale(domain=names, range=patterns), legend=LEGEND)
