"""The page of an extracted, resized or merged adapter: first the picture, then every matrix."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from spectra.records import provenance
from spectra.records.merge import Merge
from spectra.records.surgery import MeasuredLoss, Reduction
from spectra.records.verdicts import Skipped
from spectra.report.figures.surgery import (
    cancelled_energy,
    counts_before_and_after,
    error_against_size,
    merged_counts,
    spectrum_with_cut,
)
from spectra.report.page import Page, Section, render
from spectra.report.tables import numbers
from spectra.report.tables.html_tables import Column, HtmlTable, html_table, text
from spectra.storage.atomic import write_text
from spectra.storage.destinations import REPORT, require_file

REDUCED = {
    "name": text("Matrix"),
    "rank_before": Column("Rank before", numbers.count),
    "rank": Column("Rank", numbers.count),
    "norm": Column("‖ΔW‖", numbers.compact),
    "error": Column("Left out (measured)", numbers.compact),
    "least_error": Column("Least possible", numbers.compact),
    "spectral_error": Column("Spectral norm left out, at most", numbers.compact),
    "energy_kept": Column("Energy kept", numbers.percent),
    "count_before": Column("Intruders before", numbers.count),
    "count_after": Column("Intruders after", numbers.count),
}
MERGED = {
    "name": text("Matrix"),
    "relative": Column("‖sum of ΔW‖ / ‖W0‖", numbers.compact),
    "cancelled": Column("Cancelled", numbers.percent),
    "single": text("Intruders of each"),
    "count": Column("Of the merge", numbers.count),
    "new": Column("New", numbers.count),
    "clear_up_to": Column("No new one up to", numbers.compact),
    "first_new_at": Column("First new one at", numbers.compact),
}
PAIRS = {
    "pair": text("Adapters"),
    "matrices": Column("Matrices", numbers.count),
    "cosine": Column("Cosine of the updates", numbers.signed),
    "phi_out": Column("Overlap out", numbers.decimal),
    "expected_out": Column("By chance", numbers.decimal),
    "phi_in": Column("Overlap in", numbers.decimal),
    "expected_in": Column("By chance (in)", numbers.decimal),
}
MEASURED = {
    "checkpoint": text("Checkpoint"),
    "task": text("Task"),
    "what": text("What"),
    "value": Column("Value", numbers.signed),
    "low": Column("95 % low", numbers.signed),
    "high": Column("95 % high", numbers.signed),
    "unit": text("Unit"),
}


def write_surgery_report(result: Reduction | Merge, path: Path | str, *, command: str = "") -> Path:
    """Write the page of one result.

    Args:
        result: What was written, or forecast.
        path: Where to write.
        command: The command that makes it again.

    Returns:
        The path written to.
    """
    out = require_file(Path(path), REPORT, force=True)
    page = _merge_page(result, command) if isinstance(result, Merge) else _reduction_page(result, command)
    write_text(out, render(page))
    return out


def _reduction_page(result: Reduction, command: str) -> Page:
    figures = (spectrum_with_cut(result), error_against_size(result), counts_before_and_after(result))
    sections = [
        Section("cut", "What was kept", figures=tuple(figure for figure in figures if figure is not None)),
        *_measured(result.measured),
        Section(
            "matrices", "Every matrix", tables=(html_table("reduced", "Every matrix", result.to_dataframe(), REDUCED),)
        ),
        *_left_behind(result.left_behind),
    ]
    return Page(
        title=f"{result.source} → {result.out}",
        kind="report of an adapter",
        findings=tuple(result.sentences()),
        warnings=result.warnings,
        sections=sections,
        facts=_facts(
            {
                "operation": result.operation,
                "source": result.source,
                "base": result.base or "–",
                "ranks": result.rule,
                "k": str(result.k),
                "epsilon": f"{result.epsilon:g}",
            },
            result.versions,
        ),
        command=command,
    )


def _merge_page(result: Merge, command: str) -> Page:
    from pandas import DataFrame

    matrices = result.to_dataframe().assign(single=[", ".join(map(str, one.counts)) for one in result.matrices])
    pairs = DataFrame([vars(pair) | {"pair": f"{pair.first + 1} and {pair.second + 1}"} for pair in result.pairs])
    figures = tuple(figure for figure in (merged_counts(result), cancelled_energy(result)) if figure is not None)
    tables = (html_table("pairs", "Every two adapters", pairs, PAIRS),) if len(pairs) else ()
    cut: list[Section] = []
    if result.reduction is not None:
        drawn = (spectrum_with_cut(result.reduction), error_against_size(result.reduction))
        cut = [Section("cut", "What the merged adapter keeps", figures=tuple(one for one in drawn if one is not None))]
    told = list(result.sentences())
    predicted = {task: result.predicted(task) for task in dict.fromkeys(one.task for one in result.measured)}
    told += [
        f"{task}: {value:+.4f} if the adapters did not interact; the measured values are below."
        for task, value in predicted.items()
        if value is not None
    ]
    return Page(
        title="Merge of " + ", ".join(result.adapters),
        kind="forecast of a merge",
        findings=tuple(told),
        warnings=result.warnings,
        sections=[
            Section("forecast", "What the merge does to the spectra", figures=figures, tables=tables),
            *_measured(result.measured),
            *cut,
            Section("matrices", "Every matrix", tables=(html_table("merged", "Every matrix", matrices, MERGED),)),
            *_left_behind(result.left_behind),
        ],
        facts=_facts(
            {
                **{
                    f"adapter {place}": f"{weight:g} * {name}"
                    for place, (name, weight) in enumerate(zip(result.adapters, result.weights, strict=True), 1)
                },
                "base": result.base,
                "k": str(result.k),
                "epsilon": f"{result.epsilon:g}",
            },
            result.versions,
        ),
        command=command,
    )


def _measured(measured: Sequence[MeasuredLoss]) -> list[Section]:
    from pandas import DataFrame

    if not measured:
        return []
    table: HtmlTable = html_table(
        "measured", "Scores and forgetting", DataFrame([vars(one) for one in measured]), MEASURED
    )
    return [Section("measured", "What was measured", tables=(table,))]


def _left_behind(left: Sequence[Skipped]) -> list[Section]:
    from pandas import DataFrame

    if not left:
        return []
    columns = {"name": text("Tensor or module"), "reason": text("Why")}
    table = html_table("left-behind", "Changed, and not in the output", DataFrame([vars(one) for one in left]), columns)
    return [Section("left", "What was left behind", tables=(table,))]


def _facts(settings: Mapping[str, str], versions: Mapping[str, str]) -> Mapping[str, Mapping[str, str]]:
    commit = provenance.commit()
    return {"Settings": settings, "Versions": {**versions, **({"commit of spectra": commit} if commit else {})}}
