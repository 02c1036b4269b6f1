"""The tables that every answer is computed from: one row per trial, per treated trial, per point along the way."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from spectra.report.inputs.beside import intervention_tables
from spectra.runs import Run
from spectra.runs.study_schema import study_table
from spectra.study.bar import Bar
from spectra.study.intervention_job import DONE, intervention_folder, outcome_of

LOW_RANK, DENSE = "random low rank", "dense gaussian"
TAKEN_OVER = (
    *("trial", "label", "method", "rank", "alpha", "scaling", "learning_rate", "seed", "steps", "chosen"),
    *("validation_score", "task_score", "count", "energy_share", "update_relative", "update_frobenius"),
    *("effective_rank", "trainable_parameters"),
)


@dataclass(frozen=True, eq=False)
class StudyTables:
    """What a study rests on; the columns stand in `spectra.runs.study_schema`.

    Attributes:
        trials: One row per trial.
        forgetting: One row per trial and held-out task.
        trajectory: Counts along the way.
        interventions: Points of all interventions.
        contrasts: Their contrasts.
        primary: The held-out task that decides.
        trials_of_the_sweep: The trials as the sweep wrote them.
    """

    trials: pd.DataFrame
    forgetting: pd.DataFrame
    trajectory: pd.DataFrame
    interventions: pd.DataFrame
    contrasts: pd.DataFrame
    primary: str
    trials_of_the_sweep: pd.DataFrame

    @property
    def used(self) -> pd.DataFrame:
        """The trials that learnt something."""
        return self.trials[self.trials["used"].astype(bool)]

    @property
    def chosen(self) -> pd.DataFrame:
        """Of these, those at the chosen learning rate of their configuration."""
        return self.used[self.used["chosen"].fillna(False).astype(bool)]

    @property
    def heldouts(self) -> list[str]:
        """The held-out tasks, the primary one first."""
        names = [str(name) for name in dict.fromkeys(self.forgetting["heldout"])]
        return sorted(names, key=lambda name: name != self.primary)


def unit_of(forgetting: pd.DataFrame, heldout: str) -> str:
    """The unit in which a held-out task is forgotten."""
    units = forgetting.loc[forgetting["heldout"] == heldout, "unit"].dropna()
    return str(units.iloc[0]) if len(units) else "of the held-out loss"


def collect(run: Run, bar: Bar, primary: str | None) -> StudyTables:
    """The tables of a study as far as it has run."""
    trials, forgetting = run.table("trials"), run.table("forgetting")
    counted = _control_counts(run.table("controls"))
    rows = [_row(run, trial, bar, counted.get(str(trial["trial"]), {})) for trial in trials.to_dict("records")]
    folders = [
        folder
        for trial in trials["trial"]
        if (outcome_of(run, trial) or {}).get("outcome") == DONE
        and ((folder := intervention_folder(run, trial)) / "interventions.json").is_file()
    ]
    beside = intervention_tables(folders)
    names = list(dict.fromkeys(forgetting["heldout"]))
    return StudyTables(
        trials=study_table("study_trials", rows),
        forgetting=forgetting,
        trajectory=run.table("trajectory"),
        interventions=beside["interventions"],
        contrasts=beside["intervention_contrasts"],
        primary=str(primary or (names[0] if names else "")),
        trials_of_the_sweep=trials,
    )


def _control_counts(controls: pd.DataFrame) -> Mapping[str, Mapping[str, int]]:
    """Intruder dimensions of every control, summed over matrices, by trial."""
    if controls.empty:
        return {}
    counts = controls.assign(one=controls["is_intruder"].fillna(False).astype(int))
    summed = counts.groupby(["trial", "control"])["one"].sum().reset_index()
    found: dict[str, dict[str, int]] = {}
    for trial, control, count in zip(summed["trial"], summed["control"], summed["one"], strict=True):
        found.setdefault(str(trial), {})[str(control)] = int(count)
    return found


def _row(run: Run, trial: Mapping[Any, Any], bar: Bar, controls: Mapping[str, int]) -> dict[str, Any]:
    control = next((name for name in (LOW_RANK, DENSE) if name in controls), "")
    count, beside = trial["count"], controls.get(control)
    known = not (count is None or pd.isna(count))
    outcome = outcome_of(run, str(trial["trial"])) or {}
    reason = _exclusion(trial, bar)
    return {
        **{name: trial[name] for name in TAKEN_OVER},
        "slots": int(trial["matrices"]) * int(trial["k"]) if known else None,
        "control": control,
        "control_count": beside,
        "beyond_control": int(count) - beside if known and beside is not None else None,
        "bar": bar.score,
        "used": not reason,
        "excluded": reason,
        "intervention": outcome.get("outcome", ""),
        "intervention_reason": outcome.get("reason", ""),
    }


def _exclusion(trial: Mapping[Any, Any], bar: Bar) -> str:
    """Why a trial is not used, or ""."""
    if trial["status"] == "stopped early":
        return "it was stopped early"
    if trial["status"] != "done":
        return "it failed"
    score = trial["validation_score"]
    if score is None or pd.isna(score):
        return "it has no validation score"
    if bar.score is not None and score <= bar.score:
        return f"its validation score {score:.4g} does not exceed {bar.score:.4g}, the {bar.reason}"
    return ""
