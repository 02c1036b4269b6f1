"""The material of a page from what lies on disk or in memory: runs, scans, comparisons, interventions."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectra.errors import DataError, RunError
from spectra.records.catalogue import METRICS, VERDICTS_ALONE
from spectra.records.comparison import Comparison
from spectra.records.scan import Scan
from spectra.records.scan_file import read_scan
from spectra.records.totals import totals
from spectra.report.inputs.beside import (
    MARKER,
    intervention_settings,
    intervention_tables,
    intervention_warnings,
    interventions_inside,
    is_intervention,
)
from spectra.report.inputs.evidence import null_of_scan
from spectra.report.inputs.material import Material
from spectra.report.inputs.subject import (
    checkpoint_label,
    plain_name,
    scan_subject,
    scan_title,
    sweep_subject,
    sweep_title,
)
from spectra.runs import BESIDE_RUNS, SCHEMAS, Run, tidy
from spectra.storage.atomic import read_json

if TYPE_CHECKING:
    import pandas as pd

SCAN_FILE = "scan.json"
CONTROLS = "controls"
OVERLAPS = "overlaps"
MEASURED = "the checkpoint"


def run_material(folder: Path | str) -> Material:
    """The material of a run folder.

    Raises:
        RunError: If the folder is no run or lacks a table.
    """
    run = Run.open(folder)
    sweep = run.sweep
    specification = run.specification
    interventions = interventions_inside(run.path)
    tables = {name: run.table(name) for name in SCHEMAS}
    return Material(
        kind="sweep",
        title=sweep_title(specification, tables["trials"], Path(folder).resolve().name),
        subject=sweep_subject(specification, tables["trials"]),
        tables={**tables, **intervention_tables(interventions)},
        edits=intervention_settings(interventions),
        warnings=intervention_warnings(interventions),
        settings=specification,
        versions=sweep.get("versions") or {},
        hardware=sweep.get("hardware") or {},
        commit=sweep.get("commit") or "",
        command=_command_text(sweep.get("command")),
    )


def scan_material(scan: Scan, command: str = "") -> Material:
    """The material of one scan; its one trial is the checkpoint."""
    trial = scan.checkpoint
    matrices = [{"trial": trial, **row} for row in scan.matrix_rows()]
    row = {
        "trial": trial,
        "label": checkpoint_label(scan),
        "method": scan.kind,
        **totals(scan.matrices),
        "k": scan.k,
        "epsilon": scan.epsilon,
        "status": "done",
    }
    vectors = [{"trial": trial, **row} for row in scan.vector_rows()]
    tables = {"trials": [row], "matrices": matrices, "vectors": vectors}
    return Material(
        kind="scan",
        title=scan_title(scan),
        subject=scan_subject(scan),
        scan_nulls={trial: null} if (null := null_of_scan(scan)) is not None else {},
        tables={name: tidy(name, tables.get(name, [])) for name in (*SCHEMAS, *BESIDE_RUNS)},
        details=_details(scan),
        skipped=tuple((trial, skipped) for skipped in scan.skipped),
        warnings=scan.warnings,
        settings={
            "checkpoint": scan.checkpoint,
            "base": scan.base,
            "k": scan.k,
            "epsilon": scan.epsilon,
            "side": scan.side,
            "method": scan.method,
            **({"kind": scan.kind} if scan.kind else {}),
            **({"coverage": scan.coverage.sentence} if scan.coverage else {}),
        },
        versions=scan.versions,
        command=command,
    )


def _details(scan: Scan) -> "dict[str, pd.DataFrame]":
    """The curves and maps that the scan kept, and its controls."""
    import pandas as pd

    return {
        "similarity": pd.DataFrame(list(_similarity(scan)), columns=["name", "i", "j", "cosine"]),
        "spectra": pd.DataFrame(list(_spectra(scan)), columns=["name", "kind", "index", "value"]),
        CONTROLS: pd.DataFrame(list(_controls(scan)) if scan.groups != VERDICTS_ALONE else []),
    }


def _similarity(scan: Scan) -> Iterator[tuple[str, int, int, float]]:
    for matrix in scan.matrices:
        for grid in matrix.grids:
            if grid.name == "similarity" and grid.side == scan.primary_side:
                for i, cosines in enumerate(grid.values):
                    for j, cosine in enumerate(cosines):
                        yield matrix.name, i, j, cosine


def _spectra(scan: Scan) -> Iterator[tuple[str, str, int, float]]:
    for matrix in scan.matrices:
        if not matrix.base_values:
            continue
        kinds = {"W0": matrix.base_values, "W_tuned": matrix.tuned_values, "delta_W": matrix.update_values}
        for kind, values in kinds.items():
            for index, value in enumerate(values):
                yield matrix.name, kind, index, value


def _controls(scan: Scan) -> Iterator[dict[str, Any]]:
    """One row per metric that has a value: the checkpoint's figure, and that of every control."""
    nulls = list(dict.fromkeys(line.null for matrix in scan.matrices for m in matrix.measures for line in m.nulls))
    for metric in METRICS.values():
        value = scan.total(metric.key)
        if value is not None:
            beside = {null: scan.total(metric.key, null) for null in nulls}
            yield {"metric": metric.key, "over": metric.total, "formula": metric.formula, MEASURED: value, **beside}


def compared(materials: Sequence[Material], names: Sequence[str], baseline: str = "") -> Material:
    """Put several runs and scans side by side; the name of each stands before its trials and labels.

    Args:
        materials: The runs and scans.
        names: What each is called.
        baseline: The name of the one that the others are held against; the first if omitted.
    """
    import pandas as pd

    named = list(zip(materials, names, strict=True))
    differ = _questions_differ(materials)
    tables = {}
    for table in (*SCHEMAS, *BESIDE_RUNS):
        parts = []
        for material, name in named:
            part = material.tables[table].copy()
            for column in [column for column in ("trial", "full_trial") if column in part]:
                part[column] = [f"{name}/{trial}" if trial else "" for trial in part[column]]
            if table in ("pairs", "trials"):
                part["label"] = [_label(material, name, label) for label in part["label"]]
            if table == "trials":
                part["source"] = name
                if differ:
                    part["label"] = [
                        f"{label} (k = {k}, ε = {epsilon:g})" if not pd.isna(k) else label
                        for label, k, epsilon in zip(part["label"], part["k"], part["epsilon"], strict=True)
                    ]
            parts.append(part)
        kept = [part for part in parts if len(part)]
        tables[table] = pd.concat(kept, ignore_index=True) if kept else parts[0]
    bases = {material.subject.get("Base", "") for material in materials}
    base = f" on {bases.pop()}" if len(bases) == 1 and "" not in bases else ""
    return Material(
        kind="comparison",
        title=" against ".join(names) + base,
        subject={name: material.title for material, name in named if material.title != name},
        tables=tables,
        skipped=tuple((name, skipped) for m, name in named for _, skipped in m.skipped),
        warnings=tuple(f"{name}: {warning}" for m, name in named for warning in m.warnings),
        settings={name: material.settings for material, name in named},
        versions={name: material.versions for material, name in named},
        hardware={name: material.hardware for material, name in named},
        scan_nulls={f"{name}/{trial}": null for m, name in named for trial, null in m.scan_nulls.items()},
        edits={checkpoint: edit for m, _ in named for checkpoint, edit in m.edits.items()},
        baseline=baseline or names[0],
    )


def comparison_material(comparison: Comparison, command: str = "") -> Material:
    """The material of `spectra compare`: its scans side by side, and the overlap of their updates."""
    import pandas as pd

    names = distinct_names(comparison.checkpoints)
    rows = [
        {
            "pair": f"{names[overlap.first]} and {names[overlap.second]}",
            **{name: getattr(overlap, name) for name in ("side", "name", "layer", "role", "phi", "expected", "most")},
        }
        for overlap in comparison.overlaps
    ]
    columns = ["pair", "side", "name", "layer", "role", "phi", "expected", "most"]
    beside = compared([scan_material(scan) for scan in comparison.scans], names)
    return replace(
        beside,
        details={OVERLAPS: pd.DataFrame(rows, columns=columns)},
        # The comparison hands the warnings of its scans on itself.
        warnings=comparison.warnings,
        settings={**beside.settings, "top": comparison.top, "draws": comparison.draws, "seed": comparison.seed},
        versions=comparison.versions,
        command=command,
    )


def distinct_names(sources: Sequence[Path | str]) -> list[str]:
    """The shortest ends of the paths that tell them apart; a path given twice is numbered."""
    parts = [Path(source).resolve().with_suffix("").parts for source in sources]
    for length in range(1, max(len(one) for one in parts) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(one[-2:])} ({number})" for number, one in enumerate(parts, start=1)]


def _label(material: Material, name: str, label: str) -> str:
    """A configuration of a run, or a scan, told apart by its source."""
    return name if material.kind == "scan" and "Method" not in material.subject else f"{name}: {label}"


def _questions_differ(materials: Sequence[Material]) -> bool:
    """Whether the sources were scanned at more than one k or epsilon."""
    asked = {pair for material in materials for pair in zip(material.done["k"], material.done["epsilon"], strict=True)}
    return len(asked) > 1


def intervention_material(folder: Path) -> Material:
    """The material of a folder that `spectra intervene` wrote."""
    content = read_json(folder / MARKER)
    settings = intervention_settings([folder])[str(content["checkpoint"])]
    return Material(
        kind="intervention",
        title=f"Interventions on {plain_name(str(content['checkpoint']))}",
        subject={
            "Base": plain_name(str(content.get("base", ""))),
            "Checkpoint": plain_name(str(content["checkpoint"])),
        },
        tables={**{name: tidy(name, []) for name in SCHEMAS}, **intervention_tables([folder])},
        warnings=tuple(content.get("warnings", ())),
        settings=settings,
        versions=content.get("versions", {}),
        edits={str(content["checkpoint"]): settings},
    )


def joined(run: Material, interventions: Sequence[Path]) -> Material:
    """A run with interventions that lie elsewhere, beside those in its own folder."""
    import pandas as pd

    more = intervention_tables(interventions)
    both = {name: pd.concat([run.tables[name], table], ignore_index=True) for name, table in more.items() if len(table)}
    warnings = (*run.warnings, *intervention_warnings(interventions))
    edits = {**run.edits, **intervention_settings(interventions)}
    return replace(run, tables={**run.tables, **both}, warnings=warnings, edits=edits)


def read_material(path: Path | str) -> Material:
    """The material of a run folder, one of `spectra intervene` or `spectra scan -o`, or the JSON of a scan.

    Raises:
        RunError: If it is none of them.
    """
    path = Path(path)
    if path.is_dir() and is_intervention(path) and not (path / "sweep.json").is_file():
        return intervention_material(path)
    if path.is_dir() and not (path / SCAN_FILE).is_file():
        return run_material(path)
    path = path / SCAN_FILE if path.is_dir() else path
    try:
        scan = read_scan(path)
    except DataError as error:
        raise RunError(str(error)) from error
    if not all(matrix.vectors for matrix in scan.matrices):
        raise RunError(f"The scan in '{path}' has no intruder verdicts. Scan again with --metrics intruders,update.")
    return scan_material(scan)


def _command_text(command: object) -> str:
    """A command as one line, whether it was stored as text or as a list of words."""
    if isinstance(command, (list, tuple)):
        import shlex

        return shlex.join(str(word) for word in command)
    return str(command or "")
