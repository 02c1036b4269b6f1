"""What stands on a page, and in which order: one function per kind of report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from spectra.records import provenance
from spectra.report.figures.continual import count_over_tasks, scores_of_all_tasks
from spectra.report.figures.control import controls_table, count_beside_controls
from spectra.report.figures.difference import count_differences
from spectra.report.figures.figure import Figure
from spectra.report.figures.forgetting import forgetting_against, score_against_forgetting
from spectra.report.figures.intervention import intervention_figures
from spectra.report.figures.map import layer_maps, similarity_maps
from spectra.report.figures.matrix import cosine_profiles, similarity_map, spectrum, vector_bounds
from spectra.report.figures.overlap import overlap_maps, pairs_of_checkpoints
from spectra.report.figures.pair import pair_figure
from spectra.report.figures.scan import fitting, layer_map, leading_similarity, map_table, measures_of, sparse_spectra
from spectra.report.figures.threshold import count_against_epsilon, count_against_k
from spectra.report.figures.trajectory import trajectory_figures
from spectra.report.figures.trial import (
    count_against_learning_rate,
    count_against_rank,
    count_per_trial,
    size_and_shape,
    training_history,
)
from spectra.report.figures.update import update_spectra
from spectra.report.inputs.material import Material
from spectra.report.inputs.sources import OVERLAPS
from spectra.report.page import Page, Section
from spectra.report.tables import numbers
from spectra.report.tables.differences import differences_table
from spectra.report.tables.html_tables import (
    RHO,
    HtmlTable,
    contrasts_table,
    cost_table,
    forgetting_table,
    matrices_table,
    pairs_table,
    rows_table,
    statistics_table,
    trials_table,
)
from spectra.report.tables.packed import packed
from spectra.report.text.findings import Findings, findings
from spectra.report.text.intruder_findings import random_direction_note
from spectra.report.text.warnings import warnings
from spectra.report.tiles import tiles

# What the curves behind the cells may weigh: the page of 224 matrices stays below 1.5 MB.
DETAILS = {
    "similarity": (24_000, leading_similarity, "similarity maps show the leading 10 vectors", "similarity map"),
    "spectra": (13_000, sparse_spectra, "spectra show 18 of their leading values", "spectrum"),
}

KINDS = {
    "sweep": "report of a sweep",
    "scan": "report of a scan",
    "intervention": "report of an intervention",
    "comparison": "comparison",
}

Drawer = Callable[[Material], Figure | None]


def page_of(material: Material) -> Page:
    """The page of whatever the material is of."""
    return {"scan": scan_page, "intervention": intervention_page}.get(material.kind, trials_page)(material)


def trials_page(material: Material) -> Page:
    """The page of a sweep, or of several runs and scans side by side."""
    heldouts = [str(name) for name in dict.fromkeys(material.tables["forgetting"]["heldout"])]
    by_heldout = [(heldout, measure) for heldout in heldouts for measure in ("count", "update_relative")]
    scores = _drawn([score_against_forgetting(material, heldout) for heldout in heldouts])
    differences = _drawn([count_differences(material)])
    counts = _drawn([count_per_trial(material)])
    first = [*differences, *scores, *counts][:1]
    said = findings(material)
    sections = [
        Section(
            "differences",
            "What differs from the baseline?",
            lead=f"Every figure minus that of {material.baseline}." if material.baseline else "",
            figures=differences,
            tables=(differences_table(material),),
        ),
        *([overlap_section(material)] if OVERLAPS in material.details else []),
        Section(
            "trade-off",
            "What was learned, and what was forgotten?",
            figures=(*scores, *_drawn([pair_figure(material, heldout) for heldout in heldouts])),
            tables=(forgetting_table(material), pairs_table(material)),
        ),
        Section(
            "intruders",
            "How many intruder dimensions are there, and where?",
            lead=random_direction_note(material),
            figures=(
                *counts,
                *_drawn(
                    draw(material)
                    for draw in (
                        layer_maps,
                        count_against_epsilon,
                        count_against_k,
                        count_against_rank,
                        count_against_learning_rate,
                        similarity_maps,
                    )
                ),
            ),
        ),
        Section(
            "association",
            "Do intruders go with forgetting?",
            lead="Intervals are drawn over settings, one configuration at one learning rate with all its seeds. All "
            "trials share one base model and one data set: what holds here may not hold elsewhere.",
            figures=_drawn([forgetting_against(material, heldout, measure) for heldout, measure in by_heldout]),
            tables=_statistics(material),
        ),
        _interventions(material),
        Section(
            "continual",
            "What do later tasks take from earlier ones?",
            figures=_drawn([scores_of_all_tasks(material), count_over_tasks(material)]),
        ),
        Section(
            "updates",
            "How large are the updates, and along how many directions?",
            figures=_drawn([size_and_shape(material), update_spectra(material)]),
        ),
        Section(
            "training",
            "How did the training go, and what did it cost?",
            figures=(*trajectory_figures(material), *_drawn([training_history(material)])),
            tables=(cost_table(material),),
        ),
        Section("all-trials", _every(material), tables=(trials_table(material),)),
        Section("rows", "What was read and used", tables=(rows_table(material),)),
    ]
    return _page(material, first, sections, said)


def _every(material: Material) -> str:
    """What the rows of the last table are: trials, or checkpoints where nothing was trained."""
    return "Every trial" if material.tables["trials"]["learning_rate"].notna().any() else "Every checkpoint"


def _statistics(material: Material) -> tuple[HtmlTable, ...]:
    """The table of coefficients, where there are settings enough for one."""
    table = statistics_table(material)
    return (table,) if any(column.heading == RHO for column in table.columns) else ()


def intervention_page(material: Material) -> Page:
    """The page of one intervention."""
    section = _interventions(material)
    return _page(material, section.figures[:1], [section], findings(material))


def _page(
    material: Material, shown: Sequence[Figure], sections: Sequence[Section], said: Findings, **rest: Any
) -> Page:
    """Put a page together: the first figure leaves its section, and sentences open the one whose question they answer.

    Args:
        material: What the page is about.
        shown: The figure of the first screen, or none.
        sections: In the order of questions.
        said: The sentences.
        rest: Further fields of `Page`.
    """
    left = [
        replace(
            section,
            figures=tuple(figure for figure in section.figures if figure not in shown),
            sentences=said.answers.get(section.identity, ()),
        )
        for section in sections
    ]
    return Page(
        **{
            "title": material.title,
            "kind": KINDS[material.kind],
            "subject": material.subject,
            "tiles": tiles(material),
            "findings": said.headline,
            "first": Section("first", "", figures=tuple(shown)) if shown else None,
            "warnings": warnings(material),
            "sections": [section for section in left if _has_content(section)],
            "facts": _facts(material),
            "command": material.command,
            **rest,
        }
    )


def overlap_section(material: Material) -> Section:
    """Whose updates point the same way."""
    return Section(
        "overlap",
        "Do the updates point the same way?",
        lead="φ = ‖U₁ᵀU₂‖² / min(i, j) of the leading singular vectors of two updates of one matrix: 1 is the same "
        "subspace (Hu et al., arXiv:2106.09685, section 7.2).",
        figures=_drawn([overlap_maps(material)]),
        tables=(pairs_of_checkpoints(material),),
    )


def _interventions(material: Material) -> Section:
    return Section(
        "interventions",
        "Do the intruders cause the forgetting?",
        lead="A checkpoint is edited in memory and measured again, with its intruders scaled and with controls of the "
        "same size. Only where scaling intruders forgets less than the norm-matched shrink, also at equal task score, "
        "is forgetting attributed to them.",
        figures=intervention_figures(material),
        tables=(contrasts_table(material),),
    )


def scan_page(material: Material) -> Page:
    """The page of one checkpoint."""
    matrices = material.tables["matrices"]
    nearest = map_table(material).sort_values(["count", "distance"], ascending=False, kind="stable")
    order = list(nearest["name"])
    material, left_out = _within_size(material, order)
    opened = order[0] if order else ""
    maps = _drawn([layer_map(material, opened)])
    panel = _drawn(draw(material, opened) for draw in (vector_bounds, similarity_map, cosine_profiles, spectrum))
    curves = _drawn(draw(material) for draw in (count_against_epsilon, count_against_k, count_beside_controls))
    controls = controls_table(material)
    sections = [
        Section("matrix", "What is behind one cell of the map?", lead=left_out, figures=panel, block="matrix"),
        Section(
            "threshold", "How does the count depend on ε and k?", lead=random_direction_note(material), figures=curves
        ),
        Section("controls", "What would chance give?", tables=(controls,) if controls else ()),
        Section("table", "Every matrix", tables=(matrices_table(material),), block="filter"),
    ]
    return _page(
        material,
        maps,
        sections,
        findings(material),
        first=Section("map", "", figures=maps, block="measure") if maps else None,
        extras={"matrices": packed(matrices.drop(columns=["trial", "seconds"])), "opened": opened},
        context={
            "measures": measures_of(map_table(material)) if len(matrices) else {},
            "names": list(matrices["name"]),
            "roles": list(dict.fromkeys(matrices["role"])),
        },
    )


def _within_size(material: Material, order: list[str]) -> tuple[Material, str]:
    """Thin the curves behind the cells, then leave out those of matrices with the fewest intruders, and say so."""
    details = {name: table for name, table in material.details.items() if name not in DETAILS}
    said = []
    for name, (most, thin, what, noun) in DETAILS.items():
        table = material.details.get(name)
        if table is None or table.empty:
            continue
        if len(table) > most:
            table = thin(table)
            said.append(what)
        details[name], left_out = fitting(table, order, most)
        if left_out:
            said.append(f"{left_out} matrices with the fewest intruders have no {noun}")
    sentence = f"To keep this page small, {'; '.join(said)}." if said else ""
    return replace(material, details=details), sentence


def _drawn(figures: Any) -> tuple[Figure, ...]:
    """The figures for which there was data."""
    return tuple(figure for figure in figures if figure is not None)


def _has_content(section: Section) -> bool:
    return bool(section.figures or section.sentences) or any(
        len(table.rows) and len(table.columns) > 1 for table in section.tables
    )


def _facts(material: Material) -> Mapping[str, Mapping[str, str]]:
    """Settings, versions and hardware as flat lists of text."""
    made = {
        "commit of spectra": material.commit or "unknown",
        "this page was written by": f"spectra {provenance.versions()['spectra']}"
        + (f", commit {provenance.commit()}" if provenance.commit() else ""),
    }
    hardware = dict(material.hardware)
    if "memory_bytes" in hardware:
        hardware["memory"] = numbers.data_size(float(hardware.pop("memory_bytes")))
    facts = {
        "Settings": _flat(material.settings),
        "Versions": {**_flat(material.versions), **made},
        "Hardware": _flat(hardware),
    }
    return {heading: entries for heading, entries in facts.items() if entries}


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Nested settings as dotted names and text, without those that are unset."""
    if isinstance(value, Mapping):
        found: dict[str, str] = {}
        for key, inner in value.items():
            found |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
        return found
    if isinstance(value, (list, tuple)) and any(isinstance(inner, Mapping) for inner in value):
        return _flat({str(position): inner for position, inner in enumerate(value)}, prefix)
    if isinstance(value, (list, tuple)):
        return {prefix: ", ".join(str(inner) for inner in value)} if value else {}
    if isinstance(value, bool):
        return {prefix: "yes" if value else "no"}
    return {} if value is None else {prefix: str(value)}
