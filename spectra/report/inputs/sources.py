"""What a report is made of: the tables of runs and scans in one shape, whichever they come from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from spectra.errors import RunError
from spectra.records.coverage import Coverage
from spectra.records.intruder_scan import IntruderScan, MatrixSpectrum, Skipped, UpdateNorms, VectorVerdict
from spectra.report.inputs.beside import (
    MARKER,
    intervention_tables,
    intervention_warnings,
    interventions_inside,
    is_intervention,
)
from spectra.report.inputs.spectral import details, spectral_scan, verdicts
from spectra.runs import BESIDE_RUNS, SCHEMAS, Run, tidy
from spectra.storage.atomic import read_json

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T", VectorVerdict, UpdateNorms)
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


def scan_material(
    scan: IntruderScan, details: "Mapping[str, pd.DataFrame] | None" = None, command: str = ""
) -> Material:
    """The material of one scan; its one trial is the checkpoint."""
    trial = scan.checkpoint
    matrices = [{"trial": trial, **row} for row in scan.matrix_rows()]
    shares = [matrix.energy_share for matrix in scan.matrices]
    row = {
        "trial": trial,
        "label": trial,
        "count": scan.count,
        "matrices": len(scan.matrices),
        "k": scan.k,
        "epsilon": scan.epsilon,
        "energy_share": sum(shares) / len(shares) if shares else None,
        **_whole_update(scan),
        "status": "done",
    }
    vectors = [{"trial": trial, **row} for row in scan.vector_rows()]
    tables = {"trials": [row], "matrices": matrices, "vectors": vectors}
    return Material(
        kind="scan",
        title=scan.checkpoint,
        tables={name: tidy(name, tables.get(name, [])) for name in (*SCHEMAS, *BESIDE_RUNS)},
        details=details or {},
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


def _whole_update(scan: IntruderScan) -> dict[str, float]:
    """Norms of the whole update, as the trials table defines them; empty if a matrix lacks its own."""
    updates = [matrix.update for matrix in scan.matrices if matrix.update is not None]
    if not updates or len(updates) < len(scan.matrices):
        return {}
    frobenius = sum(update.frobenius**2 for update in updates) ** 0.5
    # A zero update says nothing of the norm of its W0, so the whole ratio is known only if none is zero.
    whole = {"update_frobenius": frobenius, "effective_rank": sum(u.effective_rank for u in updates) / len(updates)}
    if all(update.relative > 0 for update in updates):
        base = sum((update.frobenius / update.relative) ** 2 for update in updates) ** 0.5
        whole["update_relative"] = frobenius / base
    return whole


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
    if (scan := spectral_scan(path)) is not None:
        return scan_material(verdicts(scan), details(scan))
    return scan_material(read_scan(path))


def read_scan(path: Path) -> IntruderScan:
    """A scan from the JSON that `spectra intruders --json` prints.

    Raises:
        RunError: If the file is missing or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return IntruderScan(
            **{key: content[key] for key in ("checkpoint", "base", "k", "epsilon", "side", "method")},
            matrices=tuple(_matrix(entry) for entry in content["matrices"]),
            skipped=tuple(Skipped(entry["name"], entry["reason"]) for entry in content["skipped"]),
            warnings=tuple(content.get("warnings", ())),
            epsilons=tuple(entry["epsilon"] for entry in content.get("counts_by_epsilon", ())),
            versions=content["versions"],
            kind=content.get("kind", ""),
            coverage=Coverage.of(content.get("coverage")),
        )
    except FileNotFoundError as error:
        raise RunError(f"'{path}' does not exist. Name a run folder or the JSON of `spectra intruders`.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"'{path}' is no scan of `spectra intruders --json` ({type(error).__name__}: {error}). Name a run folder "
            "or such a file."
        ) from error


def _matrix(entry: Mapping[str, Any]) -> MatrixSpectrum:
    """One matrix of a scan's JSON."""
    return MatrixSpectrum(
        name=entry["name"],
        layer=entry["layer"],
        role=entry["role"],
        block=entry["block"],
        shape=(entry["shape"][0], entry["shape"][1]),
        method=entry["method"],
        vectors=tuple(_record(VectorVerdict, vector) for vector in entry["vectors"]),
        seconds=entry["seconds"],
        update=_record(UpdateNorms, entry["update"]) if entry["update"] else None,
    )


def _record(kind: type[T], entry: Mapping[str, Any]) -> T:
    """A record from JSON; keys that a later version added are left out."""
    return kind(**{field.name: entry[field.name] for field in fields(kind) if field.name in entry})


def plain_name(task: str) -> str:
    """What a person calls a task: its name, or the last part of the path of a local file."""
    return Path(task).name if task.startswith(("/", "./", "../")) else task


def _command_text(command: object) -> str:
    """A command as one line, whether it was stored as text or as a list of words."""
    if isinstance(command, (list, tuple)):
        import shlex

        return shlex.join(str(word) for word in command)
    return str(command or "")
