"""All trials of a run folder together, as the tables that reports read."""

from typing import Any

import pandas as pd

from spectra.records.naming import trains_all_weights
from spectra.records.pairs import matched_pairs
from spectra.runs import BASE_TASK, SCHEMAS, Run, TrialFolder
from spectra.sweep.spec.kinds import kind_from_dict
from spectra.sweep.spec.plan import PlannedTrial, labelled, planned
from spectra.sweep.trial.learning_rate_selection import chosen, groups

OF_THE_TRIAL = ("method", "rank", "alpha", "learning_rate", "seed", "steps")  # the last three of a training alone


def write_tables(run: Run) -> pd.DataFrame:
    """Collect every finished or failed trial of the folder, from this sweep call and from earlier ones.

    Returns:
        The trials table.
    """
    with run.lock():
        folders = {folder.id: folder for folder in run.trials()}
        trials = labelled([_described(folder) for folder in folders.values()])
        at_chosen_rate = {trial.id for group in groups(trials) for trial in chosen(run, group)}
        ordered = sorted(trials, key=_order)
        finished = [folders[trial.id] for trial in ordered if folders[trial.id].is_finished]
        collected = {name: _together(name, finished) for name in SCHEMAS if name not in ("trials", "pairs", "timings")}
        written = {name: run.write_table(name, table) for name, table in collected.items()}
        worked_on = [folders[trial.id] for trial in ordered if _status(folders[trial.id]) != "failed"]
        run.write_table("timings", [row for folder in worked_on for row in _timings(folder)])
        base = run.base_result(BASE_TASK) or {}
        rows = [
            _row(trial, folders[trial.id], trial.id in at_chosen_rate, base)
            for trial in ordered
            if folders[trial.id].is_over
        ]
        table = run.write_table("trials", rows)
        run.write_table("pairs", matched_pairs(table, written["forgetting"]))
        return table


def _described(folder: TrialFolder) -> PlannedTrial:
    """The trial of a folder, whose name is the identity of what trial.json describes.

    Raises:
        RunError: If it is another's, or no trial.
    """
    try:
        trial = planned(kind_from_dict(folder.specification))
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise folder.foreign("trial.json") from error
    if trial.id != folder.id:
        raise folder.foreign("trial.json")
    return trial


def _order(trial: PlannedTrial) -> tuple[Any, ...]:
    """Full fine-tuning first, then by method, alpha rule, rank, learning rate and seed: the same on every machine."""
    known = trial.kind.to_dict()
    return (
        not trains_all_weights(known["method"]),
        known["method"],
        known["rank"] or 0,
        known["alpha"] or 0.0,
        trial.label,
        trial.learning_rate or 0.0,
        trial.seed or 0,
        trial.id,
    )


def _timings(folder: TrialFolder) -> list[dict[str, Any]]:
    return [{"trial": folder.id, "part": part, "seconds": seconds} for part, seconds in folder.seconds.items()]


def _together(name: str, finished: list[TrialFolder]) -> pd.DataFrame:
    tables = [table for folder in finished if (table := folder.rows(name)) is not None and len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _row(trial: PlannedTrial, folder: TrialFolder, is_chosen: bool, base: dict[str, Any]) -> dict[str, Any]:
    known, failure = trial.kind.to_dict(), folder.failure
    test = folder.test if is_chosen else None
    return {
        "trial": trial.id,
        "label": trial.label,
        **{name: known[name] for name in OF_THE_TRIAL if name in known},
        "chosen": is_chosen,
        "task": trial.kind.task_name,
        **base,
        **(folder.metrics or {}),
        **(test or {}),
        "status": _status(folder),
        # A finished trial may still have failed on the test split.
        "error": folder.why_stopped or ("" if failure is None else failure["error"]),
    }


def _status(folder: TrialFolder) -> str:
    if folder.is_finished:
        return "done"
    return "stopped early" if folder.stopped_at is not None else "failed"
