"""Sentences on one scanned checkpoint."""

from typing import TYPE_CHECKING

from spectra.records.counts import primary_side
from spectra.report.inputs.evidence import WORDS
from spectra.report.inputs.material import Material
from spectra.report.tables import numbers
from spectra.report.text.phrases import intruders_text, lowest, matrices_text

if TYPE_CHECKING:
    import pandas as pd


WITHOUT = ", without a null control to hold them against"


def scan_findings(material: Material) -> list[str]:
    """What one checkpoint's scan shows: its count beside its null control, the place, the size of the update."""
    trial = material.tables["trials"].iloc[0]
    vectors = primary_side(material.tables["vectors"])
    matrices = material.tables["matrices"]
    if matrices.empty:
        return [f"No matrix of {trial['label']} was compared, so nothing can be said about it."]
    frame = f"k = {int(trial['k'])} in each matrix, ε = {numbers.exact(trial['epsilon'])}"
    total = int(trial["count"])
    null = material.nulls.get(str(trial["trial"]))
    control = "" if null is None else f", where {WORDS[null.control]} has {numbers.mean_count(null.count)}"
    if total == 0:
        closest = lowest(vectors, "upper")
        return [
            f"No intruder dimension: each of the {numbers.count(len(vectors))} leading vectors in "
            f"{matrices_text(len(matrices))} resembles some pre-trained vector ({frame}){control}.",
            f"The least similar is vector {int(closest['index'])} of {closest['name']}, whose largest |cosine| is "
            f"{_bracket(closest)}.",
            *_size(material),
        ]
    affected = matrices[matrices["count"] > 0]
    by_role = affected.groupby("role", sort=False)["count"].sum().sort_values(ascending=False, kind="stable")
    most = f"; {by_role.index[0]} has most, {numbers.count(by_role.iloc[0])}" if total > 1 else ""
    return [
        f"{intruders_text(total)} among {numbers.count(len(vectors))} leading vectors of "
        f"{matrices_text(len(matrices))}{control or WITHOUT} ({frame}).",
        f"They sit in {len(affected)} of {matrices_text(len(matrices))}{most}, and hold "
        f"{numbers.percent(trial['energy_share'])} of the leading vectors' energy, averaged over all matrices.",
        *_size(material),
    ]


def _bracket(vector: "pd.Series") -> str:
    """max|cos| as far as the scan knows it."""
    low, high = float(vector["lower"]), float(vector["upper"])
    if high - low < 5e-4:
        return numbers.decimal(vector["max_cosine"])
    return f"between {numbers.decimal(low)} and {numbers.decimal(high)}"


def _size(material: Material) -> list[str]:
    """The size and the effective rank of the update, where they were measured."""
    trial = material.tables["trials"].iloc[0]
    if numbers.absent(trial["effective_rank"]) or numbers.absent(trial["update_relative"]):
        return []
    return [
        f"The update has a relative norm ‖ΔW‖ / ‖W0‖ of {numbers.compact(trial['update_relative'])} over all matrices, "
        f"and an effective rank of {numbers.compact(trial['effective_rank'])} on average."
    ]
