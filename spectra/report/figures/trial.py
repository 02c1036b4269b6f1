"""Figures of the trials: how many intruders, how large an update, how the training went."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import altair as alt

from spectra.records.counts import primary_side
from spectra.records.looks import AXES, COLOURS
from spectra.report.figures.figure import (
    LEGEND,
    LOG_LABELS,
    Figure,
    at_rate,
    colour_of_label,
    constants,
    fields,
    lines_of_trials,
    listed,
    log_axis,
    page_wide,
    rows,
    shape_of_label,
)
from spectra.report.inputs.evidence import WORDS
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers

if TYPE_CHECKING:
    import pandas as pd

HISTORY_POINTS = 150


def count_per_trial(material: Material) -> Figure | None:
    """Intruder count of every chosen trial beside its null control; the least similar vectors where all are zero."""
    table = material.chosen[["trial", "label", "method", "learning_rate", "seed", "count", "matrices"]].copy()
    if table.empty:
        return None
    vectors = primary_side(material.tables["vectors"])
    table["slots"] = table["trial"].map(vectors.groupby("trial").size())
    nulls = [material.nulls.get(str(trial)) for trial in table["trial"]]
    table["null"] = [None if null is None else null.count for null in nulls]
    table["nearest"] = table["trial"].map(vectors.groupby("trial")["max_cosine"].min())
    if table["count"].max() == 0 and not table["null"].astype(float).max() > 0:
        return _least_similar(material, table)
    labels = [str(label) for label in dict.fromkeys(table["label"])]
    headings = {
        "label": "Configuration",
        "learning_rate": "Learning rate",
        "seed": "Seed",
        "count": "Intruder dimensions",
        "null": "Null control",
        "matrices": "Matrices compared",
        "slots": "Vectors looked at",
    }
    # The numbers stand in a column of their own on the right, where no bar or diamond reaches.
    upper = max(5.0, 1.35 * float(table[["count", "null"]].astype(float).max().max()))
    y = alt.Y("label:N", sort=labels, title=None)
    x = alt.X(
        "mean(count):Q",
        title="Intruder dimensions (number)",
        scale=alt.Scale(domain=[0, upper], nice=False),
        axis=alt.Axis(tickMinStep=1),
    )
    base = alt.Chart(rows())
    layers = alt.layer(
        base.mark_bar(height={"band": 0.62}).encode(x=x, y=y, color=colour_of_label(material.chosen, legend=None)),
        base.mark_tick(thickness=2, color="currentColor", height={"band": 0.62}).encode(
            x="count:Q", y=y, tooltip=fields(headings, table)
        ),
        base.mark_text(align="right", dx=-4, fontSize=12, x="width").encode(
            y=y, text=alt.Text("mean(count):Q", format=",.4~r")
        ),
        base.transform_filter("isValid(datum.null)")
        .mark_point(shape="diamond", size=90, strokeWidth=1.8, opacity=1, stroke="currentColor")
        .encode(x="mean(null):Q", y=y, tooltip=fields(headings, table)),
    )
    said = [
        f"{row['label']} (seed {row['seed']}): {row['count']}"
        + ("" if numbers.absent(row["null"]) else f", null control {numbers.compact(row['null'])}")
        for _, row in table.iterrows()
    ]
    controls = list(dict.fromkeys(WORDS[null.control] for null in nulls if null is not None))
    diamond = f" A diamond is the count of the null control: {' or '.join(controls)}." if controls else ""
    return Figure(
        identity="count-per-trial",
        title="Intruder dimensions of each configuration",
        shows="The sum over all compared matrices, as in the paper, at the chosen learning rate; a bar is the mean "
        f"over seeds, a tick one seed.{diamond}",
        caveat="A count says nothing of how much the intruders matter: see the energy share, and the norm of the "
        "update, which differs between these trials.",
        alternative=listed(said),
        chart=page_wide(layers, 34 * len(labels) + 10),
        table=table[list(headings)],
        headings=_known(headings, table),
    )


def _least_similar(material: Material, table: "pd.DataFrame") -> Figure | None:
    """The largest |cosine| of the least similar leading vector of every chosen trial."""
    table = table[table["nearest"].notna()]
    if table.empty:
        return None
    labels = [str(label) for label in dict.fromkeys(table["label"])]
    headings = {"label": "Configuration", "seed": "Seed", "nearest": "Largest |cosine| of the least similar vector"}
    epsilon = float(material.chosen["epsilon"].iloc[0])
    base = alt.Chart(rows())
    layers = alt.layer(
        alt.Chart(constants(epsilon=[epsilon])).mark_rule(strokeDash=[4, 3]).encode(x="epsilon:Q"),
        alt.Chart(constants(epsilon=[epsilon], text=[f"ε = {epsilon:g}"]))
        .mark_text(align="left", dx=4, dy=-6, y=0)
        .encode(x="epsilon:Q", text="text:N"),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x=alt.X("nearest:Q", title=headings["nearest"], scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("label:N", sort=labels, title=None),
            color=colour_of_label(material.chosen, legend=None),
            tooltip=fields(headings, table),
        ),
    )
    said = [f"{row['label']}: {numbers.decimal(row['nearest'])}" for _, row in table.iterrows()]
    return Figure(
        identity="count-per-trial",
        title="How near the least similar vectors come to counting",
        shows="No chosen trial has an intruder dimension. Each mark is the leading vector of a trial that resembles "
        "its nearest pre-trained vector least: it would count first if ε were raised. One mark per seed.",
        caveat="One vector is not the model, and a vector just above ε differs little from one just below.",
        alternative=listed(said),
        chart=page_wide(layers, 34 * len(labels) + 10),
        table=table[list(headings)],
        headings=headings,
    )


def _known(headings: Mapping[str, str], table: "pd.DataFrame") -> dict[str, str]:
    """The headings of columns that have a value."""
    return {name: heading for name, heading in headings.items() if table[name].notna().any()}


def count_against_learning_rate(material: Material) -> Figure | None:
    """Intruder count against learning rate; all trials, where a configuration was trained at several."""
    table = material.done[["trial", "label", "method", "learning_rate", "seed", "count", "validation_score", "chosen"]]
    if table.empty or table["count"].max() == 0 or table.groupby("label")["learning_rate"].nunique().max() < 2:
        return None
    table = table.assign(pick=["chosen" if one else "not chosen" for one in table["chosen"].fillna(False)])
    headings = {
        "label": "Configuration",
        "learning_rate": "Learning rate",
        "seed": "Seed",
        "count": "Intruder dimensions",
        "validation_score": "Validation score",
        "pick": "By validation score",
    }
    scale, ticks = log_axis(table["learning_rate"].dropna())
    x = alt.X("learning_rate:Q", scale=scale, title="Learning rate", axis=alt.Axis(values=ticks, labelExpr=LOG_LABELS))
    y = alt.Y("count:Q", title="Intruder dimensions (number)", scale=alt.Scale(domainMin=0, nice=True))
    colour, shape = colour_of_label(material.done), shape_of_label(material.done)
    tips = fields(headings, table)
    base = alt.Chart(rows())
    layers = alt.layer(
        base.mark_line(strokeWidth=1.5, opacity=0.6).encode(x=x, y="mean(count):Q", color=colour),
        base.mark_point(size=90, strokeWidth=1.5, opacity=1)
        .encode(x=x, y=y, color=colour, shape=shape, tooltip=tips)
        .transform_filter("datum.pick !== 'chosen'"),
        base.mark_point(size=110, filled=True, opacity=1)
        .encode(x=x, y=y, color=colour, shape=shape, tooltip=tips)
        .transform_filter("datum.pick === 'chosen'"),
    )
    said = [f"{row['label']}{at_rate(row)}: {row['count']}" for _, row in table.iterrows()]
    return Figure(
        identity="count-learning-rate",
        title="Intruder dimensions against learning rate",
        shows="All trials; filled marks are the learning rates chosen by validation score, lines join one "
        "configuration (mean over seeds).",
        caveat="Rank and learning rate are confounded where each rank has its own best rate: compare along one line.",
        alternative=listed(said),
        chart=page_wide(layers, 280),
        table=table[list(headings)],
        headings=headings,
        wide=False,
    )


def count_against_rank(material: Material) -> Figure | None:
    """Intruder count against rank, by the factor on the update; chosen trials, where there are several ranks."""
    chosen = material.chosen
    table = chosen[chosen["rank"].notna() & chosen["alpha"].notna()]
    if table["rank"].nunique() < 2 or table["count"].max() == 0:
        return None
    table = table.sort_values("rank", kind="stable").assign(
        factor=[
            f"α/r = {numbers.exact(alpha / rank)}" for alpha, rank in zip(table["alpha"], table["rank"], strict=True)
        ]
    )
    headings = {
        "label": "Configuration",
        "rank": "Rank r",
        "alpha": "α",
        "scaling": "Factor on B·A",
        "learning_rate": "Learning rate",
        "seed": "Seed",
        "count": "Intruder dimensions",
    }
    factors = list(dict.fromkeys(table["factor"]))
    colour = alt.Color(
        "factor:N", scale=alt.Scale(domain=factors, range=list(COLOURS)), legend=LEGEND if len(factors) > 1 else None
    )
    x = alt.X("rank:O", title="Rank r", axis=alt.Axis(labelAngle=0))
    y = alt.Y("count:Q", title="Intruder dimensions (number)", scale=alt.Scale(domainMin=0, nice=True))
    base = alt.Chart(rows())
    layers = alt.layer(
        base.mark_line(strokeWidth=1.5, opacity=0.6).encode(x=x, y="mean(count):Q", color=colour),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x=x, y=y, color=colour, tooltip=fields(headings, table)
        ),
    )
    said = [f"r = {row['rank']}, {row['factor']}: {row['count']}" for _, row in table.iterrows()]
    return Figure(
        identity="count-rank",
        title="Intruder dimensions against rank",
        shows="Adapters at their chosen learning rates; lines join adapters of the same α/r (mean over seeds).",
        caveat="Each rank has its own learning rate where the validation score chose another: see the figure of "
        "learning rates, and the norms of the updates.",
        alternative=listed(said),
        chart=page_wide(layers, 280),
        table=table[[*headings, "factor"]],
        headings=headings,
        wide=False,
    )


def size_and_shape(material: Material) -> Figure | None:
    """Effective rank of the update against its relative norm."""
    table = material.done[["trial", "label", "method", "learning_rate", "seed", "update_relative", "effective_rank"]]
    # A zero update has no place on a logarithmic axis.
    table = table[(table["update_relative"] > 0) & (table["effective_rank"] > 0)]
    if table.empty:
        return None
    headings = {
        "label": "Configuration",
        "learning_rate": "Learning rate",
        "seed": "Seed",
        "update_relative": "‖ΔW‖ / ‖W0‖",
        "effective_rank": "Effective rank",
    }
    sizes, shapes = log_axis(table["update_relative"]), log_axis(table["effective_rank"])
    chart = (
        alt.Chart(rows())
        .mark_point(filled=True, size=100, opacity=0.95)
        .encode(
            x=alt.X(
                "update_relative:Q",
                title=AXES["update_relative"],
                scale=sizes[0],
                axis=alt.Axis(values=sizes[1], labelExpr=LOG_LABELS),
            ),
            y=alt.Y(
                "effective_rank:Q",
                title=AXES["effective_rank"],
                scale=shapes[0],
                axis=alt.Axis(values=shapes[1], labelExpr=LOG_LABELS),
            ),
            color=colour_of_label(material.done),
            shape=shape_of_label(material.done),
            tooltip=fields(headings, table),
        )
    )
    said = [
        f"{row['label']}{at_rate(row)}: relative norm {numbers.compact(row['update_relative'])}, effective rank "
        f"{numbers.compact(row['effective_rank'])}"
        for _, row in table.iterrows()
    ]
    return Figure(
        identity="size-and-shape",
        title="Size and effective rank of the update",
        shows="Each trial by how far it moved the weights, relative to the pre-trained ones, and over how many "
        "directions it spread the move: exp(entropy of the singular values of ΔW), mean over matrices. Both axes are "
        "logarithmic.",
        caveat="A low-rank method cannot exceed its rank, so the vertical axis partly restates the configuration.",
        alternative=listed(said),
        chart=page_wide(chart, 280),
        table=table[list(headings)],
        headings=headings,
        wide=False,
    )


def training_history(material: Material) -> Figure | None:
    """Training loss over steps of the chosen trials."""
    history = material.tables["history"]
    table = history[history["loss"].notna()].merge(material.chosen[["trial", "label", "method", "seed"]], on="trial")
    if table.empty:
        return None
    stride = max(1, int(table.groupby("trial").size().max()) // HISTORY_POINTS)
    table = table[table.groupby("trial").cumcount() % stride == 0]
    headings = {"label": "Configuration", "seed": "Seed", "step": "Step", "loss": "Training loss"}
    chart = lines_of_trials(
        material.chosen,
        alt.X("step:Q", title="Optimiser step"),
        alt.Y("loss:Q", title="Training loss", scale=alt.Scale(zero=False)),
        fields(headings, table),
        strokeWidth=1.5,
        opacity=0.9,
    )
    said = [
        f"{group['label'].iloc[0]}: from {numbers.compact(group['loss'].iloc[0])} to "
        f"{numbers.compact(group['loss'].iloc[-1])}"
        for _, group in table.sort_values("step", kind="stable").groupby("trial", sort=False)
    ]
    thinned = f" Every {stride}th entry of the log is drawn." if stride > 1 else ""
    return Figure(
        identity="history",
        title="Training loss",
        shows=f"Mean training loss between log entries, chosen trials.{thinned}",
        caveat="Training loss is not the test score, and a lower one is not a better model.",
        alternative=listed(said),
        chart=page_wide(chart, 260),
        table=table[["trial", *headings]],
        headings=headings,
    )
