"""What an extracted, resized or merged adapter keeps: spectra with the cut, error against size, counts."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import altair as alt

from spectra.records.merge import Merge
from spectra.records.surgery import ReducedMatrix, Reduction
from spectra.report.figures.figure import (
    FEW_LOG_LABELS,
    Figure,
    counted_bars,
    fields,
    legend_of,
    listed,
    page_wide,
    rows,
)
from spectra.report.inputs.subject import plain_name
from spectra.report.tables import numbers

if TYPE_CHECKING:
    import pandas as pd

# Spectra drawn, those that lose most first, and values of each.
SPECTRA, VALUES = 40, 128
PERCENT_LABELS = "replace(format(100 * datum.value, '~r'), '-', '−') + ' %'"
KEPT, LEFT_OUT = "kept", "left out"


def spectrum_with_cut(result: Reduction) -> Figure | None:
    """The singular values of each update, those kept and those left out."""
    from pandas import DataFrame

    chosen = sorted(result.matrices, key=lambda matrix: -matrix.error)[:SPECTRA]
    table = DataFrame([point for matrix in chosen for point in _points(matrix)])
    if table.empty:
        return None
    headings = {"name": "Matrix", "position": "Position j", "value": "σ_j of ΔW", "what": "Kept or left out"}
    chart = (
        alt.Chart(rows())
        .mark_line(strokeWidth=1.4, opacity=0.7, point=alt.OverlayMarkDef(size=12))
        .encode(
            x=alt.X("position:Q", title="Position j of the singular value", axis=alt.Axis(tickMinStep=1)),
            y=alt.Y(
                "value:Q",
                title="σ_j of ΔW",
                scale=alt.Scale(type="log", nice=False),
                axis=alt.Axis(labelExpr=FEW_LOG_LABELS),
            ),
            color=alt.Color(
                "what:N",
                scale=alt.Scale(domain=[KEPT, LEFT_OUT], range=["#2e7fc9", "#d1602a"]),
                legend=legend_of([KEPT, LEFT_OUT], lines=True),
            ),
            strokeDash=alt.StrokeDash(
                "what:N",
                scale=alt.Scale(domain=[KEPT, LEFT_OUT], range=[[1, 0], [3, 3]]),
                legend=legend_of([KEPT, LEFT_OUT], lines=True),
            ),
            detail="name:N",
            tooltip=fields(headings, table),
        )
    )
    written = [matrix for matrix in chosen if matrix.rank]
    return Figure(
        identity="spectrum-cut",
        title="Singular values of the updates, and the cut",
        shows="Each line is one matrix: its singular values up to the rank that was written, and beyond. The squares "
        "of all that lie beyond the cut, known or not, add up to the squared error.",
        caveat=f"The {len(chosen)} matrices that lose most, at most {VALUES} values each. Of a large matrix only the "
        "leading values were computed; those beyond the rank are lower bounds there.",
        alternative=listed([f"{one.name}: rank {one.rank} of {min(one.shape)}" for one in written]),
        chart=page_wide(chart, 320),
        table=table,
        headings=headings,
    )


def _points(matrix: ReducedMatrix) -> list[dict[str, object]]:
    values = [value for value in matrix.singular_values[:VALUES] if value > 0]
    return [
        {
            "name": matrix.name,
            "position": place + 1,
            "value": value,
            "what": KEPT if place < matrix.rank else LEFT_OUT,
        }
        for place, value in enumerate(values)
    ]


def error_against_size(result: Reduction) -> Figure | None:
    """The relative error that every rank would leave, beside what was written."""
    from pandas import DataFrame

    matrices = [matrix for matrix in result.matrices if matrix.norm > 0]
    depth = max((len(matrix.singular_values) for matrix in matrices if _is_whole(matrix)), default=0)
    known = min((len(matrix.singular_values) for matrix in matrices if not _is_whole(matrix)), default=depth)
    if not matrices or not known or result.norm == 0:
        return None
    points = [_at(matrices, rank, result.norm) for rank in range(known + 1)]
    points.append(
        {"rank": "as written", "parameters": result.parameters, "error": result.error / result.norm, "what": "written"}
    )
    table = DataFrame(points)
    headings = {"rank": "Rank", "parameters": "Numbers in the factors", "error": "‖ΔW − BA‖ / ‖ΔW‖", "what": "What"}
    base = alt.Chart(rows())
    x = alt.X("parameters:Q", title="Numbers in the factors", axis=alt.Axis(format="~s"))
    y = alt.Y("error:Q", title="Left out, share of the norm", scale=alt.Scale(domainMin=0))
    chart = alt.layer(
        base.transform_filter("datum.what == 'one rank for all'")
        .mark_line(strokeWidth=2, color="#2e7fc9")
        .encode(x=x, y=y, tooltip=fields(headings, table)),
        base.transform_filter("datum.what == 'written'")
        .mark_point(size=110, filled=True, color="#d1602a")
        .encode(x=x, y=y, tooltip=fields(headings, table)),
    )
    return Figure(
        identity="error-size",
        title="Error against size",
        shows="The line is the least error of one rank for all matrices, from their singular values; the point is what "
        "was written, whose ranks may differ from matrix to matrix.",
        caveat="The error is that of the weights. How much of the task or of the forgetting is lost with it has "
        "to be measured.",
        alternative=f"Written: {numbers.count(result.parameters)} numbers, {result.error / result.norm:.4g} of the "
        "norm left out.",
        chart=page_wide(chart, 240),
        table=table,
        headings=headings,
        wide=False,
    )


def _is_whole(matrix: ReducedMatrix) -> bool:
    return matrix.method != "krylov"


def _at(matrices: Sequence[ReducedMatrix], rank: int, norm: float) -> dict[str, object]:
    """One rank for all matrices: numbers and relative error."""
    kept = sum(sum(value**2 for value in matrix.singular_values[:rank]) for matrix in matrices)
    size = sum(min(rank, len(matrix.singular_values)) * sum(matrix.shape) for matrix in matrices)
    error = math.sqrt(max(norm**2 - kept, 0.0)) / norm
    return {"rank": str(rank), "parameters": size, "error": error, "what": "one rank for all"}


def counts_before_and_after(result: Reduction) -> Figure | None:
    """Intruder dimensions of the original and of what was written."""
    if result.count_before is None or result.count_after is None:
        return None
    return _bars(
        "counts-surgery",
        {"original": result.count_before, "written": result.count_after},
        "Intruder dimensions before and after",
        "Sum over matrices of the leading vectors that resemble no vector of W0.",
        "Equal counts do not mean equal vectors.",
    )


def merged_counts(result: Merge) -> Figure | None:
    """Intruder dimensions of every single adapter, of the merge, and the new ones among them."""
    counts = {
        f"{place}  {plain_name(name)}": count
        for place, (name, count) in enumerate(zip(result.adapters, result.counts, strict=True), 1)
    }
    return _bars(
        "counts-merge",
        {**counts, "merge": result.count, "new in the merge": result.new},
        "Intruder dimensions of the adapters and of their merge",
        "Sum over matrices. New are those of the merge that resemble no intruder of a single adapter.",
        "A merge can forget without a new intruder, and an intruder need not cost anything: measure with heldout.",
    )


def cancelled_energy(result: Merge) -> Figure | None:
    """Energy that cancels or adds up, matrix by matrix."""
    from pandas import DataFrame

    table = DataFrame(
        [
            {
                "name": one.name,
                "relative": one.relative,
                "cancelled": one.cancelled,
                "new": one.new,
            }
            for one in result.matrices
            if one.norm > 0
        ]
    )
    if table.empty:
        return None
    headings = {
        "name": "Matrix",
        "relative": "‖sum of ΔW‖ / ‖W0‖",
        "cancelled": "Cancelled share of the energies",
        "new": "New intruder dimensions",
    }
    chart = (
        alt.Chart(rows())
        .mark_point(size=60, filled=True, opacity=0.75)
        .encode(
            x=alt.X("relative:Q", title="‖sum of ΔW‖ / ‖W0‖"),
            y=alt.Y(
                "cancelled:Q", title="Cancelled share (negative: reinforced)", axis=alt.Axis(labelExpr=PERCENT_LABELS)
            ),
            color=alt.condition("datum.new > 0", alt.value("#d1602a"), alt.value("#2e7fc9")),
            tooltip=fields(headings, table),
        )
    )
    return Figure(
        identity="cancelled",
        title="Energy that cancels, by matrix",
        shows="Each point is a matrix: 1 − ‖sum‖² / sum of ‖·‖² of the weighted updates. Orange: with a new intruder.",
        caveat="Updates that do not cancel can still act on the same inputs: see the overlaps.",
        alternative=listed([f"{row['name']}: {row['cancelled']:+.2f}" for row in table.to_dict("records")]),
        chart=page_wide(chart, 260),
        table=table,
        headings=headings,
        wide=False,
    )


def _bars(identity: str, counts: "dict[str, int]", title: str, shows: str, caveat: str) -> Figure:
    from pandas import DataFrame

    bars: pd.DataFrame = DataFrame({"what": list(counts), "count": list(counts.values())})
    headings = {"what": "What", "count": "Intruder dimensions"}
    return Figure(
        identity=identity,
        title=title,
        shows=shows,
        caveat=caveat,
        alternative=listed([f"{name}: {count}" for name, count in counts.items()]),
        chart=counted_bars(bars, headings),
        table=bars,
        headings=headings,
        wide=False,
    )
