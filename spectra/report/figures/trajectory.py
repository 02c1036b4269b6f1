"""Figures of what the trials pass through: intruders and the update, step by step."""

import altair as alt

from spectra.records.looks import AXES
from spectra.report.figures.figure import Figure, fields, labelled, lines_of_trials, listed, page_wide
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers

TITLES = {
    "count": "Intruder dimensions along the training",
    "energy_share": "Energy share of intruders along the training",
    "update_relative": "Size of the update along the training",
    "effective_rank": "Effective rank of the update along the training",
}


def trajectory_figures(material: Material) -> tuple[Figure, ...]:
    """One figure per measure that varies, over the optimiser steps of the chosen trials."""
    return tuple(figure for measure in TITLES if (figure := _trajectory(material, measure)) is not None)


def _trajectory(material: Material, measure: str) -> Figure | None:
    table = labelled(material.tables["trajectory"], material.chosen)
    table = table[table[measure].notna()]
    if table.empty or table[measure].nunique() < 2:
        return None
    headings = {"series": "Configuration", "step": "Step", "loss": "Training loss", measure: AXES[measure]}
    chart = lines_of_trials(
        material.chosen,
        alt.X("step:Q", title="Optimiser step"),
        alt.Y(f"{measure}:Q", title=AXES[measure]),
        fields(headings, table),
        strokeWidth=2,
        point=alt.OverlayMarkDef(size=30),
    )
    asked = {pair for pair in zip(table["k"], table["epsilon"], strict=True) if pair[0] == pair[0]}
    counted = set(zip(material.chosen["k"], material.chosen["epsilon"], strict=True))
    differs = (
        f" These scans looked at k = {', '.join(str(int(k)) for k, _ in sorted(asked))} and ε = "
        f"{', '.join(f'{epsilon:g}' for _, epsilon in sorted(asked))}, unlike the counts elsewhere on this page."
        if asked and asked != counted
        else ""
    )
    said = [
        f"{name}: from {numbers.compact(group[measure].iloc[0])} at step {group['step'].iloc[0]} to "
        f"{numbers.compact(group[measure].iloc[-1])} at step {group['step'].iloc[-1]}"
        for name, group in table.sort_values("step", kind="stable").groupby("series", sort=False)
    ]
    return Figure(
        identity=f"trajectory-{measure.replace('_', '-')}",
        title=TITLES[measure],
        shows=f"Every scan of the weights during the training, chosen trials, one line per trial.{differs}",
        caveat="Points of one line are one training: they are not independent of each other. Under a falling learning "
        "rate late steps change little.",
        alternative=listed(said),
        chart=page_wide(chart, 250),
        table=table[["trial", "label", *headings]],
        headings={name: heading for name, heading in headings.items() if table[name].notna().any()},
        wide=False,
    )
