"""Figures of the trade-off: the score of the new task, and forgetting against it and against spectral measures."""

from typing import TYPE_CHECKING

import altair as alt
import numpy as np

from spectra.records.looks import AXES
from spectra.records.pairs import adapter_rows
from spectra.report.figures.figure import (
    Figure,
    at_rate,
    colour_of_label,
    constants,
    fields,
    listed,
    page_wide,
    rows,
    shape_of_label,
)
from spectra.report.inputs.evidence import records, score_interval
from spectra.report.inputs.material import Material
from spectra.report.inputs.subject import plain_name
from spectra.report.tables import numbers
from spectra.report.tables.statistics import MEASURES

if TYPE_CHECKING:
    import pandas as pd


def score_against_forgetting(material: Material, heldout: str) -> Figure | None:
    """Test score of the new task against forgetting of one held-out task; the chosen trials."""
    columns = ["trial", "label", "method", "learning_rate", "seed", "task", "task_metric", "task_score"]
    table = material.chosen[[*columns, "task_examples", "base_task_score", "count"]].merge(
        _of_heldout(material, heldout), on="trial"
    )
    table = table[table["task_score"].notna()]
    if table.empty:
        return None
    first = table.iloc[0]
    task = plain_name(first["task"])
    table["score_low"], table["score_high"] = zip(*(score_interval(row) for row in records(table)), strict=True)
    headings = {
        "label": "Configuration",
        "learning_rate": "Learning rate",
        "seed": "Seed",
        "task_score": f"{task}: {first['task_metric']} (test)",
        "score_low": "Score, lower end",
        "score_high": "Score, upper end",
        "forgetting": f"Forgetting ({first['unit']})",
        "low": "Forgetting, lower end",
        "high": "Forgetting, upper end",
        "count": "Intruder dimensions",
    }
    x = alt.X("forgetting:Q", title=f"Forgetting ({first['unit']}; right = more forgotten)")
    y = alt.Y("task_score:Q", title=f"{task}: {first['task_metric']}", scale=_score_scale(table))
    colour = colour_of_label(material.chosen)
    base = alt.Chart(rows())
    layers = [
        base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(x=x, x2="high:Q", y=y, color=colour).encode(x="low:Q"),
        base.mark_point(filled=True, size=110, opacity=1).encode(
            x=x, y=y, color=colour, shape=shape_of_label(material.chosen), tooltip=fields(headings, table)
        ),
        alt.Chart(constants(forgetting=[0])).mark_rule(strokeDash=[4, 3], opacity=0.6).encode(x="forgetting:Q"),
    ]
    base_scores = table["base_task_score"].dropna()
    if len(base_scores):
        place = constants(forgetting=[0.0], task_score=[float(base_scores.iloc[0])], text=["base"])
        layers += [
            alt.Chart(place).mark_point(shape="cross", size=110, color="currentColor").encode(x=x, y=y),
            alt.Chart(place).mark_text(align="left", dx=9, dy=-7).encode(x=x, y=y, text="text:N"),
        ]
    if table["score_low"].notna().all():
        layers.insert(
            0,
            base.mark_rule(strokeWidth=1.5, opacity=0.6).encode(x=x, y="score_low:Q", y2="score_high:Q", color=colour),
        )
    pairs = _pairs(table)
    if pairs:
        joined = alt.Chart(constants(**pairs)).mark_rule(opacity=0.35, strokeDash=[2, 3])
        layers.insert(0, joined.encode(x="x:Q", y="y:Q", x2="x2:Q", y2="y2:Q"))
    said = [
        f"{row['label']}: score {numbers.decimal(row['task_score'])}, forgetting {numbers.signed(row['forgetting'])} "
        f"{numbers.interval(row['low'], row['high'])}"
        for _, row in table.iterrows()
    ]
    vertical = "vertical bars its Wilson interval, " if table["score_low"].notna().all() else ""
    return Figure(
        identity=f"score-forgetting-{_slug(material, heldout)}",
        title=f"Task score against forgetting on {heldout}",
        shows=f"Every chosen trial by its test score on {task} (up is better) and its forgetting on {heldout} "
        f"(left is better): tuned minus base {first['metric']}, {numbers.count(first['n'])} examples. Horizontal bars "
        f"are the 95 % interval of forgetting, {vertical}dashed lines join each trial to full fine-tuning with the "
        "same seed. The dashed vertical line is the untouched base model.",
        caveat="The intervals cover the choice of test examples, not the luck of training. A trial that learned less "
        "has also had less reason to forget.",
        alternative=listed(said),
        chart=page_wide(alt.layer(*layers), 340),
        table=table[list(headings)],
        headings=headings,
    )


def _of_heldout(material: Material, heldout: str) -> "pd.DataFrame":
    forgetting = material.tables["forgetting"]
    return forgetting[forgetting["heldout"] == heldout]


def _slug(material: Material, heldout: str) -> str:
    """A safe, unique piece of an id for a held-out task, whatever its name."""
    return str(list(dict.fromkeys(material.tables["forgetting"]["heldout"])).index(heldout))


def _score_scale(table: "pd.DataFrame") -> alt.Scale:
    """An axis that holds every interval and the base, and spans a twentieth of the score at least."""
    values = table[["task_score", "score_low", "score_high", "base_task_score"]].astype(float).to_numpy().ravel()
    known = values[~np.isnan(values)]
    low, high = float(known.min()), float(known.max())
    least = 0.05 * max(1e-9, abs(high), abs(low))
    missing = max(0.0, least - (high - low)) / 2
    margin = 0.04 * max(high - low, least)
    ends = [low - missing - margin, high + missing + margin]
    if table["task_metric"].iloc[0] == "accuracy":
        ends = [max(0.0, ends[0]), min(1.0, ends[1])]
    return alt.Scale(domain=ends, nice=False, zero=False)


def _pairs(table: "pd.DataFrame") -> dict[str, list[float]]:
    """Line ends from each trial to the fully fine-tuned one of the same seed; empty without a partner."""
    full = table[table["method"] == "full"][["seed", "forgetting", "task_score"]]
    joined = adapter_rows(table).merge(full, on="seed", suffixes=("", "_full"))
    if joined.empty:
        return {}
    ends = {"x": "forgetting", "y": "task_score", "x2": "forgetting_full", "y2": "task_score_full"}
    return {end: [float(value) for value in joined[column]] for end, column in ends.items()}


def forgetting_against(material: Material, heldout: str, measure: str) -> Figure | None:
    """Forgetting of one held-out task against a spectral measure; all trials."""
    columns = ["trial", "label", "method", "learning_rate", "seed", "chosen", measure]
    table = material.done[columns].merge(_of_heldout(material, heldout), on="trial")
    table = table[table[measure].notna()]
    # A measure that never varies has nothing to say; the statistics table notes it.
    if table[measure].nunique() < 2:
        return None
    first = table.iloc[0]
    name = f"{MEASURES[measure][0].lower()}{MEASURES[measure][1:]}"
    headings = {
        "label": "Configuration",
        "learning_rate": "Learning rate",
        "seed": "Seed",
        measure: MEASURES[measure],
        "forgetting": f"Forgetting ({first['unit']})",
        "low": "Lower end",
        "high": "Upper end",
    }
    x = alt.X(f"{measure}:Q", title=AXES[measure])
    y = alt.Y("forgetting:Q", title=f"Forgetting ({first['unit']})")
    colour = colour_of_label(material.done)
    base = alt.Chart(rows())
    layers = alt.layer(
        alt.Chart(constants(forgetting=[0])).mark_rule(strokeDash=[4, 3], opacity=0.6).encode(y="forgetting:Q"),
        base.mark_rule(strokeWidth=1.5, opacity=0.5).encode(x=x, y="low:Q", y2="high:Q", color=colour),
        base.mark_point(filled=True, size=90, opacity=0.95).encode(
            x=x, y=y, color=colour, shape=shape_of_label(material.done), tooltip=fields(headings, table)
        ),
    )
    said = [
        f"{row['label']}{at_rate(row)}: {numbers.compact(row[measure])}, forgetting {numbers.signed(row['forgetting'])}"
        for _, row in table.iterrows()
    ]
    return Figure(
        identity=f"forgetting-{measure.replace('_', '-')}-{_slug(material, heldout)}",
        title=f"Forgetting on {heldout} against the {name}",
        shows=f"All {len(table)} trials, chosen or not, by {name} and forgetting with its 95 % interval.",
        caveat="An association over trials that also differ in learning rate, rank and task score: it does not say "
        "that the one causes the other. The statistics table has the coefficients.",
        alternative=listed(said),
        chart=page_wide(layers, 280),
        table=table[list(headings)],
        headings=headings,
        wide=False,
    )
