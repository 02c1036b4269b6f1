"""What a study was going to ask, written before it ran: a folder answers the questions that it was begun with."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectra.errors import RunError
from spectra.records.provenance import commit, versions
from spectra.runs import Run
from spectra.runs.lock import locked
from spectra.storage.atomic import read_json, write_json
from spectra.storage.destinations import mark, require_continued
from spectra.storage.keyed import digest
from spectra.study.questions import EXCLUSION, VERDICT
from spectra.study.specification import StudySpecification
from spectra.sweep.spec.plan import plan

PARTS = ("specification", "resolved")  # as it was stated, and with every default
ADVICE = "advice.json"  # beside study.json: what the advised adapter is, read from the finished sweep
FREE = ("title", "report_to")  # fields that reach no figure
GROWING = {f"{part}.methods" for part in PARTS}  # where learning rates may be added


def registered(folder: Path) -> dict[str, Any]:
    """What a run folder was begun with: "specification", "resolved", "questions", "rules",
    "sha256", "versions", "commit".

    Raises:
        RunError: If no study was begun there.
    """
    path = registration_path(folder)
    if not path.is_file():
        raise RunError(f"'{folder}' is no study: it has no study/study.json. Name the --out folder of `spectra study`.")
    return read_json(path)


def registration_path(folder: Path) -> Path:
    """The file that is written before anything runs."""
    return folder / "study" / "study.json"


def register(folder: Path, specification: StudySpecification, command: str = "") -> str:
    """Write the questions and rules of a study into its folder, or find the same ones there.

    Learning rates may be added to the grids of a folder that has no advice yet: a best rate at the edge of its grid
    asks for it. The record keeps which were added, and after how many finished trials.

    Args:
        folder: The run folder; made if absent.
        specification: The study.
        command: The command line, for the record.

    Returns:
        The SHA-256 of specification, questions and rules.

    Raises:
        RunError: If the folder was begun with other questions, or holds trials that ran before any were asked.
        DestinationError: If it holds other files.
    """
    require_continued(folder, "sweep")
    asked = _asked(specification)
    digest = _digest(asked)
    with locked(folder / "lock"):
        path = registration_path(folder)
        if path.is_file():
            there = read_json(path)
            differing = _differing(there, asked)
            if not differing:
                return str(there.get("sha256", digest))
            fixed = [name for name in differing if name not in GROWING]
            added = {} if fixed else _added_rates(there, specification)
            if not added:
                name = fixed[0] if fixed else next(iter(differing))
                old, new = differing[name]
                raise RunError(
                    f"'{folder}' was begun as another study: its {name} is {old!r}, not {new!r}, and what is asked "
                    "must not change once it runs. Choose another --out."
                )
            if (path.parent / ADVICE).is_file():
                raise RunError(
                    f"'{folder}' has its advised adapter already, and that was chosen from fewer learning rates. "
                    "Choose another --out."
                )
            finished = sum(trial.metrics is not None for trial in Run(folder).trials())
            widened = [*there.get("widened", ()), {"trials_finished": finished, "added": added}]
            write_json(path, {**there, **asked, "sha256": digest, "widened": widened})
            return digest
        if (folder / "sweep.json").is_file() and any(trial.metrics for trial in Run(folder).trials()):
            raise RunError(
                f"'{folder}' holds trials that ran before any question was asked of them, and a study asks first. "
                "Choose another --out."
            )
        mark(folder, "sweep")
        record = {**asked, "sha256": digest, "command": command, "versions": dict(versions()), "commit": commit()}
        write_json(path, record)
    return digest


def _differing(there: Mapping[str, Any], asked: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The fields, by their path, in which a study asks otherwise than its folder does: what stands there, and here."""
    there = {**there, "resolved": _completed(there.get("resolved", {}))}
    old, new = _flat({name: there.get(name) for name in asked}), _flat(asked)
    free = {f"{part}.{name}" for name in FREE for part in PARTS}
    names = [name for name in dict.fromkeys((*old, *new)) if name not in free]
    return {name: (old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)}


def _added_rates(there: Mapping[str, Any], specification: StudySpecification) -> dict[str, list[float]]:
    """The learning rates, by configuration, that the methods of a study have beyond those of its folder.

    None if they differ in anything else, or were stated in a way that is none any more.
    """
    try:
        begun = plan(StudySpecification.model_validate(there.get("specification", {})).sweep)
    except ValueError:
        return {}
    asked = {trial.id: trial for trial in plan(specification.sweep)}
    known, groups = {trial.id for trial in begun}, {trial.group for trial in begun}
    new = [trial for identity, trial in asked.items() if identity not in known]
    if not known <= asked.keys() or not {trial.group for trial in new} <= groups:
        return {}
    added: dict[str, list[float]] = {}
    for trial in new:
        rates = added.setdefault(trial.label, [])
        if trial.learning_rate is not None and trial.learning_rate not in rates:
            rates.append(trial.learning_rate)
    return added


def _asked(specification: StudySpecification) -> dict[str, Any]:
    """Everything that is fixed, as JSON holds it."""
    asked = {
        "specification": specification.given(),
        "resolved": specification.model_dump(mode="json"),
        "questions": specification.study.described(),
        "rules": {"exclusion": EXCLUSION, "verdict": VERDICT},
    }
    return dict(json.loads(json.dumps(asked)))


def _completed(resolved: Mapping[str, Any]) -> Mapping[str, Any]:
    """What was asked, with the defaults of the fields that the version which asked did not know yet, at any depth."""
    try:
        return dict(StudySpecification.model_validate(resolved).model_dump(mode="json"))
    except ValueError:  # no specification any more: the comparison names the field
        return resolved


def _digest(asked: Mapping[str, Any]) -> str:
    fixed = {part: {name: value for name, value in asked[part].items() if name not in FREE} for part in PARTS}
    return digest({**asked, **fixed})


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping) or not value:
        return {prefix: value}
    found: dict[str, Any] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    return found
