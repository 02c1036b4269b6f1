"""The tables of a study, RUN/study/tables: their columns, types, units and meaning."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from spectra.runs.schema import TRIAL, TRIALS, Column, typed

if TYPE_CHECKING:
    import pandas as pd

_OF_TRIALS = {column.name: column for column in TRIALS}

STUDY_TRIALS = (
    *(
        _OF_TRIALS[name]
        for name in (
            *("trial", "label", "method", "rank", "alpha", "scaling", "learning_rate", "seed", "steps", "chosen"),
            *("validation_score", "task_score", "count"),
        )
    ),
    Column("slots", "integer", "Leading vectors that were looked at: k times the compared matrices."),
    Column("control", "text", "The null control: random low rank for adapters, dense gaussian for dense updates."),
    Column("control_count", "integer", "Intruder dimensions of the control, summed over matrices."),
    Column("beyond_control", "integer", "count - control_count."),
    *(
        _OF_TRIALS[name]
        for name in (
            *("energy_share", "update_relative", "update_frobenius", "effective_rank", "trainable_parameters"),
        )
    ),
    Column("bar", "number", "Validation score of a model that learnt nothing; missing where none is known."),
    Column("used", "flag", "Whether the trial takes part in the answers."),
    Column("excluded", "text", "Why it does not; empty where it does."),
    Column("intervention", "text", "done, nothing to treat, left out or failed; empty where none was made."),
    Column("intervention_reason", "text", "Why not done."),
)

MATCHES = (
    TRIAL,
    Column("label", "text", "The adapter's configuration."),
    Column("seed", "integer", "Seed of the adapter and of the full fine-tuning."),
    Column("matched_on", "text", "score (validation) or norm (log of ||delta_W||/||W0||)."),
    Column("at", "number", "The adapter's score, or log norm."),
    Column("left_rate", "number", "Learning rate of the full trial on one side of it."),
    Column("right_rate", "number", "Learning rate of the full trial on the other side."),
    Column("count", "number", "Intruder dimensions of the adapter."),
    Column("control_count", "number", "Those of its control."),
    Column("full_count", "number", "Those of full fine-tuning, interpolated."),
    Column("full_control_count", "number", "Those of its control, interpolated."),
    Column("reason", "text", "Why there is no match; empty where there is one."),
)

COMPARISONS = (
    Column("question", "text", "Letter of the question."),
    Column("name", "text", "What is compared."),
    Column("over", "text", "The configuration; all for the mean over configurations."),
    Column("heldout", "text", "The held-out task; empty where the figure has none."),
    Column("value", "number", "The effect."),
    Column("low", "number", "Lower end of its interval."),
    Column("high", "number", "Upper end of its interval."),
    Column("level", "number", "Level of the interval."),
    Column("error", "number", "Standard error."),
    Column("unit", "text", "Unit of value, low, high, error and smallest."),
    Column("seeds", "integer", "Seeds behind it."),
    Column("settings", "integer", "Configurations, or settings, behind it."),
    Column("smallest", "number", "Smallest effect that would have been found in 80 % of studies like this one."),
    Column("decides", "flag", "Whether the verdict of the question rests on it."),
    Column("expected", "integer", "Sign that the hypothesis expects; 0 without one."),
    Column("note", "text", "What a reader has to know."),
    Column("finding", "text", "supported, contradicted, not distinguishable, not enough settings; or the sign."),
)

SIGNS = (
    Column("sign", "text", "What the paper reports."),
    Column("paper", "text", "The paper's figure."),
    Column("found", "text", "The figure here, beside its control where it is a count."),
    Column("value", "number", "The figure here."),
    Column("low", "number", "Lower end of its interval."),
    Column("high", "number", "Upper end of its interval."),
    Column("unit", "text", "Unit of value, low and high."),
    Column("judgement", "text", "reproduced, contradicted, not distinguishable or not tried."),
    Column("note", "text", "What a reader has to know."),
)

FRONT = (
    Column("label", "text", "The configuration."),
    Column("method", "text", "Its method."),
    Column("seeds", "integer", "Seeds behind its means."),
    Column("learning_rate", "number", "The learning rate that validation chose."),
    Column("score", "number", "Test score, mean over seeds."),
    Column("score_low", "number", "Lower end of its interval."),
    Column("score_high", "number", "Upper end of its interval."),
    Column("forgetting", "number", "Of the primary held-out task, mean over seeds."),
    Column("forgetting_low", "number", "Lower end of its interval."),
    Column("forgetting_high", "number", "Upper end of its interval."),
    Column("count", "number", "Intruder dimensions, mean over seeds."),
    Column("control_count", "number", "Those of the null control."),
    Column("update_relative", "number", "||delta_W|| / ||W0||, mean over seeds."),
    Column("train_seconds", "number", "Time in optimiser steps, mean over seeds."),
    Column("stands", "text", "on the front, behind another configuration, or not distinguishable from it."),
)

STUDY_TABLES: Mapping[str, tuple[Column, ...]] = {
    "study_trials": STUDY_TRIALS,
    "matches": MATCHES,
    "comparisons": COMPARISONS,
    "paper_signs": SIGNS,
    "front": FRONT,
}


def study_table(name: str, rows: "Iterable[Mapping[str, Any]]") -> "pd.DataFrame":
    """The rows as the documented table of a study.

    Raises:
        RunError: If a row has a column that the schema does not know.
    """
    return typed(name, STUDY_TABLES[name], rows)
