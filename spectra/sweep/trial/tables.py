"""All trials of a run folder together, as the tables that reports read."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from spectra.records.pairs import matched_pairs
from spectra.runs import BASE_TASK, SCHEMAS, Run, TrialFolder
from spectra.sweep.spec.existing import is_existing
from spectra.sweep.spec.plan import PlannedTrial, labelled, planned
from spectra.sweep.trial.learning_rate_selection import chosen, groups
from spectra.training.settings import TrainingSettings

OF_TRAINING = ("learning_rate", "seed", "steps")  # not known of a checkpoint that existed already
OF_THE_SETTINGS = ("method", "rank", "alpha", "learning_rate", "seed", "steps")


def write_tables(run: Run) -> pd.DataFrame:
    """Collect every finished or failed trial of the folder, from this sweep call and from earlier ones.

    Returns:
        The trials table.
    """
    with run.lock():
        folders = {folder.id: folder for folder in run.trials()}
        trials = labelled([planned(TrainingSettings.from_dict(folder.specification)) for folder in folders.values()])
        at_chosen_rate = {trial.id for group in groups(trials) for trial in chosen(run, group)}
        ordered = sorted(trials, key=_order)
        finished = [folders[trial.id] for trial in ordered if folders[trial.id].is_finished]
        collected = {name: _together(name, finished) for name in SCHEMAS if name not in ("trials", "pairs")}
        written = {name: run.write_table(name, table) for name, table in collected.items()}
        base = run.base_result(BASE_TASK) or {}
        rows = [
            _row(trial, folders[trial.id], trial.id in at_chosen_rate, base)
            for trial in ordered
            if folders[trial.id].is_finished or folders[trial.id].failure
        ]
        table = run.write_table("trials", rows)
        run.write_table("pairs", matched_pairs(table, written["forgetting"]))
        return table


def _order(trial: PlannedTrial) -> tuple[Any, ...]:
    """Full fine-tuning first, then by method, alpha rule, rank, learning rate and seed: the same on every machine."""
    settings = trial.settings
    return (
        settings.method != "full",
        settings.method,
        settings.rank or 0,
        settings.alpha or 0.0,
        trial.label,
        settings.learning_rate,
        settings.seed,
        trial.id,
    )


def _together(name: str, finished: list[TrialFolder]) -> pd.DataFrame:
    tables = [table for folder in finished if (table := folder.rows(name)) is not None and len(table)]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _row(trial: PlannedTrial, folder: TrialFolder, is_chosen: bool, base: dict[str, Any]) -> dict[str, Any]:
    settings, failure = trial.settings, folder.failure
    test = folder.test if is_chosen else None
    absent = OF_TRAINING if is_existing(settings) else ()
    return {
        "trial": trial.id,
        "label": trial.label,
        **{name: getattr(settings, name) for name in OF_THE_SETTINGS if name not in absent},
        "chosen": is_chosen,
        "task": _task_name(settings.task),
        **base,
        **(folder.metrics or {}),
        **(test or {}),
        "status": "done" if folder.is_finished else "failed",
        "error": ""
        if failure is None
        else failure["error"],  # a finished trial may still have failed on the test split
    }


def _task_name(task: str | Mapping[str, Any]) -> str:
    """As the specification names it; the tasks of a sequence in their order."""
    if isinstance(task, str):
        return task
    return ", ".join(map(_task_name, task["tasks"])) if "tasks" in task else str(task.get("name", ""))
