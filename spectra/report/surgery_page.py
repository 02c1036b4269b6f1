"""The page of an extracted, resized or merged adapter: first the picture, then every matrix."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from spectra.records import provenance
from spectra.records.merge import Merge
from spectra.records.surgery import MeasuredLoss, Reduction
from spectra.records.verdicts import Skipped
from spectra.report.figures.figure import Figure
from spectra.report.figures.surgery import (
    cancelled_energy,
    counts_before_and_after,
    error_against_size,
    merged_counts,
    spectrum_with_cut,
)
from spectra.report.inputs.subject import plain_name
from spectra.report.page import Page, Section, render
from spectra.report.tables import numbers
from spectra.report.tables.html_tables import Column, HtmlTable, html_table, text
from spectra.report.tiles import Entry, Tile
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
    source, out = plain_name(result.source), plain_name(result.out)
    figures = (error_against_size(result), counts_before_and_after(result))
    sections = [
        Section("cut", "What was kept", figures=tuple(figure for figure in figures if figure is not None)),
        *_measured(result.measured),
        Section(
            "matrices", "Every matrix", tables=(html_table("reduced", "Every matrix", result.to_dataframe(), REDUCED),)
        ),
        *_left_behind(result.left_behind),
    ]
    return Page(
        title=f"{source} → {out}",
        kind="report of an adapter",
        subject={
            **({} if result.base is None else {"Base": plain_name(result.base)}),
            "Made from": source,
            "Written": out,
            "Ranks": result.rule,
            "Compared": f"k = {result.k}, ε = {result.epsilon:g}",
        },
        tiles=_reduction_tiles(result),
        first=_first(spectrum_with_cut(result)),
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
    cancelled = cancelled_energy(result)
    figures = () if cancelled is None else (cancelled,)
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
        title="Merge of " + " and ".join(map(plain_name, result.adapters)),
        kind="forecast of a merge",
        subject={
            "Base": plain_name(result.base),
            "Weights": ", ".join(f"{weight:g}" for weight in result.weights),
            **({} if result.out is None else {"Written": plain_name(result.out)}),
            "Compared": f"{numbers.count(len(result.matrices))} matrices, k = {result.k}, ε = {result.epsilon:g}",
        },
        tiles=_merge_tiles(result),
        first=_first(merged_counts(result)),
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


def _first(figure: Figure | None) -> Section | None:
    """The chart of the first screen."""
    return None if figure is None else Section("first", "", figures=(figure,))


def _reduction_tiles(result: Reduction) -> tuple[Tile, ...]:
    """Ranks, what they keep and leave out, intruders before and after, size."""
    ranks = [matrix.rank for matrix in result.matrices if matrix.rank] or [0]
    share, least = (part / result.norm if result.norm > 0 else 0.0 for part in (result.error, result.least_error))
    tiles = [
        Tile("Rank", (Entry(numbers.ends(str(min(ranks)), str(max(ranks))), note=_of(len(result.matrices))),)),
        Tile("Energy kept", (Entry(numbers.percent(result.energy_kept), note="of the update’s squared norm"),)),
        Tile(
            "Left out",
            (Entry(numbers.compact(share), note=f"of its norm; {numbers.compact(least)} is the least possible"),),
        ),
    ]
    if result.count_before is not None and result.count_after is not None:
        counts = {"original": result.count_before, "written": result.count_after}
        tiles.append(
            Tile("Intruder dimensions", tuple(Entry(numbers.count(count), name) for name, count in counts.items()))
        )
    return (*tiles, Tile("Size", (Entry(numbers.parameters(result.parameters), note="numbers in the factors"),)))


def _merge_tiles(result: Merge) -> tuple[Tile, ...]:
    """Intruders of the merge beside those of its parts, the new ones, energy, and the scale that is safe."""
    reinforced = result.cancelled < 0
    tiles = [
        Tile("Intruder dimensions of the merge", (Entry(numbers.count(result.count), note=_singles(result)),)),
        Tile("New ones", (Entry(numbers.count(result.new), note="that resemble none of a single adapter"),)),
        Tile(
            "Energy added" if reinforced else "Energy cancelled",
            (Entry(numbers.percent(abs(result.cancelled)), note="of the sum of the single ones"),),
        ),
    ]
    if result.clear_up_to is not None:
        note = "times the merged update has no new intruder"
        tiles.append(Tile("Safe up to", (Entry(numbers.compact(result.clear_up_to), note=note),)))
    if (pair := result.worst_pair) is not None:
        who = f"of the updates of {pair.first + 1} and {pair.second + 1}"
        tiles.append(Tile("Largest interaction", (Entry(numbers.signed(pair.cosine), note=f"cosine {who}"),)))
    return tuple(tiles)


def _singles(result: Merge) -> str:
    return " and ".join(map(numbers.count, result.counts)) + " in the single adapters"


def _of(matrices: int) -> str:
    return f"in {numbers.count(matrices)} matrices" if matrices != 1 else "in one matrix"


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
