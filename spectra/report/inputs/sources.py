"""What a report is made of: the tables of runs and scans in one shape, whichever they come from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from spectra.errors import DataError, RunError
from spectra.records.catalogue import METRICS, VERDICTS_ALONE
from spectra.records.scan import Scan
from spectra.records.scan_file import read_scan
from spectra.records.totals import totals
from spectra.records.verdicts import Skipped
from spectra.report.inputs.beside import (
    MARKER,
    intervention_tables,
    intervention_warnings,
    interventions_inside,
    is_intervention,
)
from spectra.runs import BESIDE_RUNS, SCHEMAS, Run, tidy
from spectra.storage.atomic import read_json

if TYPE_CHECKING:
    import pandas as pd

CONTROLS = "controls"
MEASURED = "the checkpoint"
Kind = Literal["sweep", "scan", "intervention", "comparison"]


@dataclass(frozen=True, eq=False)
class Material:
    """The tables of `spectra.runs.SCHEMAS` and `BESIDE_RUNS`, and what is known of their making.

    Attributes:
        kind: What the report is about.
        title: What a person calls it.
        tables: By name; a table may be empty, its columns are always there.
        details: Per-matrix curves and maps of a scan: name, quantity, index columns and value. May be empty.
        skipped: What was not compared: trial, name, reason.
        warnings: Sentences handed down by the scan.
        settings: What was asked for.
        versions: Versions of the software.
        hardware: The machine.
        commit: The source tree it was made with.
        command: The command that makes it again.
    """

    kind: Kind
    title: str
    tables: "Mapping[str, pd.DataFrame]"
    details: "Mapping[str, pd.DataFrame]" = field(default_factory=dict)
    skipped: tuple[tuple[str, Skipped], ...] = ()
    warnings: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, Any] = field(default_factory=dict)
    hardware: Mapping[str, Any] = field(default_factory=dict)
    commit: str = ""
    command: str = ""

    @property
    def done(self) -> "pd.DataFrame":
        """The trials that have an intruder count."""
        trials = self.tables["trials"]
        return trials[trials["count"].notna()]

    @property
    def chosen(self) -> "pd.DataFrame":
        """The trials that a comparison rests on: not those whose learning rate lost to another of its configuration."""
        return self.done[self.done["chosen"].fillna(True).astype(bool)]


def run_material(folder: Path | str) -> Material:
    """The material of a run folder.

    Raises:
        RunError: If the folder is no run or lacks a table.
    """
    run = Run.open(folder)
    sweep = run.sweep
    specification = run.specification
    interventions = interventions_inside(run.path)
    return Material(
        kind="sweep",
        title=str(specification.get("title") or Path(folder).resolve().name),
        tables={**{name: run.table(name) for name in SCHEMAS}, **intervention_tables(interventions)},
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
        "label": trial,
        **totals(scan.matrices),
        "k": scan.k,
        "epsilon": scan.epsilon,
        "status": "done",
    }
    vectors = [{"trial": trial, **row} for row in scan.vector_rows()]
    tables = {"trials": [row], "matrices": matrices, "vectors": vectors}
    return Material(
        kind="scan",
        title=scan.checkpoint,
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


def compared(materials: Sequence[Material], names: Sequence[str]) -> Material:
    """Put several runs and scans side by side; the name of each stands before its trials and labels."""
    import pandas as pd

    tables = {}
    for table in (*SCHEMAS, *BESIDE_RUNS):
        parts = []
        for material, name in zip(materials, names, strict=True):
            part = material.tables[table].copy()
            for column in [column for column in ("trial", "full_trial") if column in part]:
                part[column] = [f"{name}/{trial}" if trial else "" for trial in part[column]]
            if table == "pairs":
                part["label"] = [f"{name}: {label}" for label in part["label"]]
            if table == "trials":
                is_scan = material.kind == "scan"
                part["label"] = [name if is_scan else f"{name}: {label}" for label in part["label"]]
            parts.append(part)
        kept = [part for part in parts if len(part)]
        tables[table] = pd.concat(kept, ignore_index=True) if kept else parts[0]
    return Material(
        kind="comparison",
        title=" against ".join(names),
        tables=tables,
        skipped=tuple((name, skipped) for m, name in zip(materials, names, strict=True) for _, skipped in m.skipped),
        warnings=tuple(f"{name}: {w}" for m, name in zip(materials, names, strict=True) for w in m.warnings),
        settings={name: material.settings for material, name in zip(materials, names, strict=True)},
        versions={name: material.versions for material, name in zip(materials, names, strict=True)},
        hardware={name: material.hardware for material, name in zip(materials, names, strict=True)},
    )


def intervention_material(folder: Path) -> Material:
    """The material of a folder that `spectra intervene` wrote."""
    content = read_json(folder / MARKER)
    settings = ("checkpoint", "base", "select", "k", "epsilon", "lambdas", "seed", "level", "resamples", "directions",
                "matrices", "count")  # fmt: skip
    return Material(
        kind="intervention",
        title="/".join(Path(content["checkpoint"]).parts[-2:]),
        tables={**{name: tidy(name, []) for name in SCHEMAS}, **intervention_tables([folder])},
        warnings=tuple(content.get("warnings", ())),
        settings={name: content[name] for name in settings if name in content},
        versions=content.get("versions", {}),
    )


def joined(run: Material, interventions: Sequence[Path]) -> Material:
    """A run with interventions that lie elsewhere, beside those in its own folder."""
    import pandas as pd

    more = intervention_tables(interventions)
    both = {name: pd.concat([run.tables[name], table], ignore_index=True) for name, table in more.items() if len(table)}
    warnings = (*run.warnings, *intervention_warnings(interventions))
    return replace(run, tables={**run.tables, **both}, warnings=warnings)


def read_material(path: Path | str) -> Material:
    """The material of a run folder, of one of `spectra intervene`, or of the JSON of `spectra intruders` or `scan`.

    Raises:
        RunError: If it is none of them.
    """
    path = Path(path)
    if path.is_dir() and is_intervention(path) and not (path / "sweep.json").is_file():
        return intervention_material(path)
    if path.is_dir():
        return run_material(path)
    try:
        scan = read_scan(path)
    except DataError as error:
        raise RunError(str(error)) from error
    if not all(matrix.vectors for matrix in scan.matrices):
        raise RunError(f"The scan in '{path}' has no intruder verdicts. Scan again with --metrics intruders,update.")
    return scan_material(scan)


def plain_name(task: str) -> str:
    """What a person calls a task: its name, or the last part of the path of a local file."""
    return Path(task).name if task.startswith(("/", "./", "../")) else task


def _command_text(command: object) -> str:
    """A command as one line, whether it was stored as text or as a list of words."""
    if isinstance(command, (list, tuple)):
        import shlex

        return shlex.join(str(word) for word in command)
    return str(command or "")
