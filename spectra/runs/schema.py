"""The tables of a run: their columns, types, units and meaning. This file is their documentation.

A missing number is NaN in a float column and <NA> in an integer or boolean column; a missing text is "".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from spectra.errors import RunError, first_five

if TYPE_CHECKING:
    import pandas as pd

Kind = Literal["text", "integer", "number", "flag"]
DTYPES: Mapping[Kind, str] = {"text": "object", "integer": "Int64", "number": "float64", "flag": "boolean"}

# What pandas calls the values of a column of objects.
INFERRED: Mapping[Kind, tuple[str, ...]] = {
    "text": ("string",),
    "integer": ("integer",),
    "number": ("floating", "integer", "mixed-integer-float"),
    "flag": ("boolean",),
}


@dataclass(frozen=True)
class Column:
    """One column of a table: its name, its type, and what it says (with unit)."""

    name: str
    kind: Kind
    meaning: str


TRIAL = Column("trial", "text", "Identity of the trial: a hash of its resolved specification.")

TRIALS = (
    TRIAL,
    Column("label", "text", 'What a person calls it, such as "LoRA r=8 α=16" or "full"; the same for all seeds.'),
    Column("method", "text", "Name in the table of methods: full, lora, rslora, dora, ..."),
    Column("rank", "integer", "Rank of the update; missing for full fine-tuning."),
    Column("alpha", "number", "LoRA's alpha, resolved; missing for full fine-tuning."),
    Column("scaling", "number", "Factor on B @ A; missing where the method has none."),
    Column("learning_rate", "number", "Peak learning rate."),
    Column("seed", "integer", "Seed of the head, the adapter and the data order."),
    Column("steps", "integer", "Optimiser steps."),
    Column("chosen", "flag", "True where this learning rate has the best mean validation score of its configuration."),
    Column("task", "text", "The task that was trained on."),
    Column("task_metric", "text", "Name of the score, such as accuracy or loss."),
    Column("validation_score", "number", "Score on the validation split at the end of training, higher is better."),
    Column("task_score", "number", "Score on the test split, higher is better; missing unless chosen."),
    Column("task_examples", "integer", "Test examples (or blocks) behind task_score."),
    Column("base_task_score", "number", "The untuned base model's test score, where that is meaningful."),
    Column("count", "integer", "Intruder dimensions, summed over matrices."),
    Column("matrices", "integer", "Compared matrices."),
    Column("k", "integer", "Leading vectors looked at per matrix."),
    Column("epsilon", "number", "Cosine below which a vector is an intruder."),
    Column("energy_share", "number", "Mean over matrices of sum_I S_j^2 / sum_{j<=k} S_j^2."),
    Column("update_frobenius", "number", "sqrt of the sum over matrices of ||delta_W||_F^2."),
    Column("update_relative", "number", "update_frobenius over the same norm of W0."),
    Column("effective_rank", "number", "Mean over matrices of exp(entropy of the spectrum of delta_W)."),
    Column("trainable_parameters", "integer", "Trained numbers, a task head included."),
    Column("optimiser_bytes", "integer", "Memory of the optimiser's state at the end of training."),
    Column("train_seconds", "number", "Time in the training loop, evaluation aside, over all resumptions."),
    Column("tokens_per_second", "number", "Tokens that are not padding, per second of training."),
    Column("peak_memory_bytes", "integer", "Peak memory of the training process (of the GPU where one is used)."),
    Column("status", "text", '"done", "failed" or "stopped early".'),
    Column("error", "text", "Why it failed or was stopped early."),
    Column("notes", "text", "Sentences of the scan that a reader of the counts has to know."),
)

FORGETTING = (
    TRIAL,
    Column("heldout", "text", "The held-out task."),
    Column("metric", "text", "What was measured, such as probe accuracy or loss."),
    Column("unit", "text", "Unit of base, tuned, forgetting, low and high."),
    Column("n", "integer", "Examples behind the figures."),
    Column("base", "number", "Mean loss of the base model."),
    Column("tuned", "number", "Mean loss of the tuned model."),
    Column("forgetting", "number", "tuned - base: positive means forgotten."),
    Column("low", "number", "Lower end of the 95 % interval of forgetting; missing where there is none."),
    Column("high", "number", "Upper end of the 95 % interval of forgetting; missing where there is none."),
    Column("base_score", "number", "The base model's score as people quote it (accuracy; loss where there is none)."),
    Column("tuned_score", "number", "The tuned model's score as people quote it."),
    Column("finding", "text", "forgotten, gained, not shown (the interval spans zero) or cannot tell."),
    Column("cannot_tell", "text", 'Why the examples hold too little information for a verdict; "" where they do not.'),
)

ROW_ACCOUNT = (
    TRIAL,
    Column("task", "text", "The task that was trained on, or the held-out task."),
    Column("role", "text", '"task" or "held out".'),
    Column("split", "text", "train, validation or test."),
    Column("read", "integer", "Rows read for the split; read = used + set_aside + dropped."),
    Column("used", "integer", "Rows that are left of it, before any limit on examples."),
    Column("set_aside", "integer", "Rows moved to another split."),
    Column("dropped", "integer", "Rows that no split uses."),
    Column("reasons", "text", "Why they were dropped, with their numbers."),
    Column("classes", "integer", "Different labels; missing where a task has none."),
    Column("unseen", "text", "Labels that no training row has."),
    Column("max_length", "integer", "Tokens that a text is cut to."),
    Column("texts", "integer", "Texts that were cut to tokens."),
    Column("texts_cut", "integer", "Those that were longer."),
    Column("tokens_lost", "integer", "Tokens that were cut away."),
    Column("overlap", "integer", "Rows whose input is also a training row of the sweep; missing for training rows."),
    Column("warning", "text", "A sentence where more than a hundredth is lost, or a label was never seen."),
)

TIMINGS = (
    TRIAL,
    Column(
        "part",
        "text",
        "start (of a worker, for its first trial), load (models, data, whatever no other part counts), training, "
        "validation, trajectory, scan, controls, measuring (held-out tasks) or testing.",
    ),
    Column("seconds", "number", "Time by the clock, over all calls that came to an end or were stopped."),
)

MATRICES = (
    TRIAL,
    Column("name", "text", "Canonical name of the matrix."),
    Column("layer", "integer", "Index of the block; missing outside the blocks."),
    Column("role", "text", "Last meaningful part of the name, such as q_proj."),
    Column("block", "text", "attention, mlp, expert or other."),
    Column("d_out", "integer", "Rows."),
    Column("d_in", "integer", "Columns."),
    Column("count", "integer", "Intruder dimensions among the leading k."),
    Column("energy_share", "number", "sum_I S_j^2 / sum_{j<=k} S_j^2."),
    Column("ill_conditioned", "integer", "Leading vectors too close to a neighbour to be judged singly."),
    Column("method", "text", "exact, certified or cached-basis."),
    Column("seconds", "number", "Time of the scan of this matrix."),
    Column("update_frobenius", "number", "||delta_W||_F."),
    Column("update_spectral", "number", "||delta_W||_2."),
    Column("update_relative", "number", "||delta_W||_F / ||W0||_F."),
    Column("update_effective_rank", "number", "exp(entropy of S / sum S) of delta_W; 0 for a zero update."),
    Column("update_stable_rank", "number", "||delta_W||_F^2 / ||delta_W||_2^2; 0 for a zero update."),
)

VECTORS = (
    TRIAL,
    Column("name", "text", "Canonical name of the matrix."),
    Column("layer", "integer", "Index of the block; missing outside the blocks."),
    Column("role", "text", "Last meaningful part of the name."),
    Column("index", "integer", "Position by decreasing singular value, from 0."),
    Column("singular_value", "number", "The tuned singular value."),
    Column("max_cosine", "number", "Largest |cos| to a pre-trained singular vector."),
    Column("is_intruder", "flag", "max_cosine < epsilon over all pre-trained vectors."),
    Column("lower", "number", "Proven lower bound of max_cosine."),
    Column("upper", "number", "Proven upper bound of max_cosine."),
    Column("decided_by", "text", "leading vector, certificate or full factorisation."),
    Column("ill_conditioned", "flag", "A neighbouring singular value is too close."),
    Column("side", "text", "left (d_out) or right (d_in)."),
)

CONTROLS = (
    TRIAL,
    Column("name", "text", "Canonical name of the matrix in whose place the control stands."),
    Column(
        "control", "text", "storage rounding, dense gaussian or random low rank; the two last of the update's norm."
    ),
    Column("index", "integer", "Position by decreasing singular value of the control, from 0."),
    Column("singular_value", "number", "The control's singular value."),
    Column("max_cosine", "number", "Largest |cos| to a pre-trained left singular vector."),
    Column("is_intruder", "flag", "max_cosine < epsilon over all pre-trained vectors."),
    Column("lower", "number", "Lower bound of max_cosine."),
    Column("upper", "number", "Upper bound of max_cosine; beyond 1024 rows or columns it may be unproven."),
)

UPDATE_SPECTRA = (
    TRIAL,
    Column("name", "text", "Canonical name of the matrix."),
    Column("index", "integer", "Position by decreasing singular value, from 0."),
    Column("value", "number", "Singular value of delta_W; all r of a low-rank update, at most 64 of a dense one."),
)

SIMILARITY = (
    TRIAL,
    Column("name", "text", "Canonical name of the one matrix shown."),
    Column("i", "integer", "Index of the pre-trained vector, from 0."),
    Column("j", "integer", "Index of the tuned vector, from 0."),
    Column("cosine", "number", "|<u_i of W0, u_j of W_tuned>|."),
)

HISTORY = (
    TRIAL,
    Column("step", "integer", "Optimiser step, from 1."),
    Column("loss", "number", "Mean training loss since the last entry; missing where only validation was measured."),
    Column("learning_rate", "number", "Learning rate of the body at this step."),
    Column("validation_score", "number", "Score on the validation split, where it was measured at this step."),
)

TRAJECTORY = (
    TRIAL,
    Column("step", "integer", "Optimiser step after which the weights were scanned, from 1."),
    Column("tokens", "integer", "Tokens trained on so far, padding aside; missing where the Trainer did not count."),
    Column("loss", "number", "Mean training loss that the Trainer logged last, at this step or before."),
    Column("count", "integer", "Intruder dimensions, summed over matrices."),
    Column("matrices", "integer", "Compared matrices."),
    Column("with_intruders", "integer", "Matrices with at least one intruder dimension."),
    Column("k", "integer", "Leading vectors looked at per matrix."),
    Column("epsilon", "number", "Cosine below which a vector is an intruder."),
    Column("energy_share", "number", "Mean over matrices of sum_I S_j^2 / sum_{j<=k} S_j^2."),
    Column("update_frobenius", "number", "sqrt of the sum over matrices of ||delta_W||_F^2."),
    Column("update_relative", "number", "update_frobenius over the same norm of W0."),
    Column("effective_rank", "number", "Mean over matrices of exp(entropy of the spectrum of delta_W)."),
    Column("seconds", "number", "Time that this scan took."),
    Column("weights", "text", 'Folder of the weights kept at this step, inside the trial\'s; "" where none were.'),
)

TRAJECTORY_MATRICES = (
    TRIAL,
    Column("step", "integer", "Optimiser step after which the matrix was scanned."),
    Column("name", "text", "Canonical name of the matrix."),
    Column("layer", "integer", "Index of the block; missing outside the blocks."),
    Column("role", "text", "Last meaningful part of the name, such as q_proj."),
    Column("count", "integer", "Intruder dimensions among the leading k."),
    Column("energy_share", "number", "sum_I S_j^2 / sum_{j<=k} S_j^2."),
    Column("update_frobenius", "number", "||delta_W||_F."),
    Column("update_relative", "number", "||delta_W||_F / ||W0||_F."),
    Column("effective_rank", "number", "exp(entropy of S / sum S) of delta_W; 0 for a zero update."),
)

INTERVENTIONS = (
    Column("trial", "text", "Identity of the trial the checkpoint belongs to; empty outside a run folder."),
    Column("checkpoint", "text", "The tuned checkpoint as it was named."),
    Column("arm", "text", "What is edited: intruders, or a control: shrink, shrink-all, random, neighbour, ..."),
    Column(
        "factor", "number", "lambda on the treated singular values: 0 removes, 1 is the checkpoint as it was tuned."
    ),
    Column("edited_matrices", "integer", "Matrices that the edit changes; at factor 1 those it would change."),
    Column("directions", "integer", "Directions that the edit scales in all of them; missing for a shrink."),
    Column("edit_norm", "number", "sqrt of the sum over matrices of ||edit||_F^2."),
    Column("update_norm", "number", "sqrt of the sum over all scanned matrices of ||delta_W + edit||_F^2."),
    Column("update_share", "number", "update_norm over its value at factor 1."),
    Column("heldout", "text", "The held-out task of this row."),
    Column("metric", "text", "What was measured on it."),
    Column("unit", "text", "Unit of base, tuned, forgetting and change with their ends."),
    Column("n", "integer", "Held-out examples behind the figures."),
    Column("base", "number", "Mean loss of the untouched base model."),
    Column("tuned", "number", "Mean loss of the edited model."),
    Column("forgetting", "number", "tuned - base: positive means forgotten."),
    Column("low", "number", "Lower end of the interval of forgetting."),
    Column("high", "number", "Upper end of the interval of forgetting."),
    Column("change", "number", "Loss of the edited model minus that at factor 1: negative means mended."),
    Column("change_low", "number", "Lower end of the interval of change."),
    Column("change_high", "number", "Upper end of the interval of change."),
    Column("score_name", "text", "What people quote of the held-out task, such as accuracy."),
    Column("score", "number", "Its value for the edited model."),
    Column("task", "text", "The task that the checkpoint was tuned on; empty where none was given."),
    Column("task_metric", "text", "Name of the task score: accuracy, or negative loss."),
    Column("task_n", "integer", "Examples (or blocks) behind the task score."),
    Column("task_score", "number", "Score of the edited model on its task, higher is better."),
    Column("task_change", "number", "task_score minus that at factor 1."),
    Column("task_change_low", "number", "Lower end of the interval of task_change."),
    Column("task_change_high", "number", "Upper end of the interval of task_change."),
)

INTERVENTION_CONTRASTS = (
    Column("trial", "text", "Identity of the trial the checkpoint belongs to; empty outside a run folder."),
    Column("checkpoint", "text", "The tuned checkpoint as it was named."),
    Column("control", "text", "The arm that the intruder arm is held against; shrink decides the verdict."),
    Column("heldout", "text", "The held-out task."),
    Column("unit", "text", "Unit of forgetting_area and equal_score with their ends."),
    Column("n", "integer", "Held-out examples."),
    Column("from_factor", "number", "The smallest lambda of both curves; the areas reach from there to 1."),
    Column("forgetting_area", "number", "Mean over lambda of forgetting(control) - forgetting(intruders)."),
    Column("forgetting_low", "number", "Lower end of its interval."),
    Column("forgetting_high", "number", "Upper end of its interval."),
    Column("task", "text", "The task; empty where none was given, and then what follows is missing."),
    Column("task_n", "integer", "Its examples."),
    Column("task_area", "number", "Mean over lambda of task score(intruders) - task score(control)."),
    Column("task_low", "number", "Lower end of its interval."),
    Column("task_high", "number", "Upper end of its interval."),
    Column("equal_score", "number", "Mean of forgetting(control) - forgetting(intruders) at equal task score."),
    Column("equal_score_low", "number", "Lower end of its interval."),
    Column("equal_score_high", "number", "Upper end of its interval."),
    Column("verdict", "text", "intruders, control, trade-off, not distinguishable, nothing forgotten or cannot tell."),
    Column("sentence", "text", "The verdict with its figures."),
)

CONTINUAL = (
    TRIAL,
    Column("step", "integer", "How many tasks of the sequence have been learnt, from 1."),
    Column("learnt", "text", "The task that was learnt in this step."),
    Column("task", "text", "The task that was measured: this one or an earlier one."),
    Column("task_step", "integer", "The step in which the measured task was learnt."),
    Column("metric", "text", "Name of the score, such as accuracy."),
    Column("score", "number", "Score on the task's validation split, higher is better."),
    Column("examples", "integer", "Validation examples behind the score."),
    Column("lost", "number", "The score right after the task was learnt, minus the score now."),
    Column("matrices", "integer", "Compared matrices. This and what follows is the same in all rows of a step."),
    Column("count_base", "integer", "Intruder dimensions of the weights after this step against the original base."),
    Column("count_previous", "integer", "Intruder dimensions against the weights before this step."),
    Column("energy_share_base", "number", "Their energy share, against the original base."),
    Column("energy_share_previous", "number", "Their energy share, against the weights before this step."),
    Column("update_base", "number", "sqrt of the sum over matrices of ||W_t - W_0||_F^2."),
    Column("update_previous", "number", "sqrt of the sum over matrices of ||W_t - W_{t-1}||_F^2."),
)

PAIRS = (
    Column("trial", "text", "Identity of the adapter's trial, at its chosen learning rate."),
    Column("full_trial", "text", "Identity of the full fine-tuning beside it, of the same seed."),
    Column("label", "text", "The adapter's configuration."),
    Column("seed", "integer", "Seed of both."),
    Column("matched_on", "text", "budget (both at their chosen learning rate), score or norm (any rate of full)."),
    Column("gap", "number", "What is left: |difference of validation scores|, or |log of the ratio of norms|."),
    Column("full_learning_rate", "number", "Learning rate of the full fine-tuning."),
    Column("score", "number", "Validation score of the adapter."),
    Column("full_score", "number", "Validation score of the full fine-tuning."),
    Column("norm", "number", "update_frobenius of the adapter."),
    Column("full_norm", "number", "update_frobenius of the full fine-tuning."),
    Column("count", "integer", "Intruder dimensions of the adapter."),
    Column("full_count", "integer", "Intruder dimensions of the full fine-tuning."),
    Column("heldout", "text", 'The held-out task; "" where there is none.'),
    Column("forgetting", "number", "Forgetting of the adapter."),
    Column("full_forgetting", "number", "Forgetting of the full fine-tuning."),
)

SCHEMAS: Mapping[str, tuple[Column, ...]] = {
    "trials": TRIALS,
    "forgetting": FORGETTING,
    "row_account": ROW_ACCOUNT,
    "matrices": MATRICES,
    "vectors": VECTORS,
    "controls": CONTROLS,
    "update_spectra": UPDATE_SPECTRA,
    "similarity": SIMILARITY,
    "history": HISTORY,
    "continual": CONTINUAL,
    "pairs": PAIRS,
    "trajectory": TRAJECTORY,
    "trajectory_matrices": TRAJECTORY_MATRICES,
    "timings": TIMINGS,
}

# Tables of `spectra intervene`, which stand in a folder of their own beside interventions.json: no run needs them.
BESIDE_RUNS: Mapping[str, tuple[Column, ...]] = {
    "interventions": INTERVENTIONS,
    "intervention_contrasts": INTERVENTION_CONTRASTS,
}

# Records may gain keys (never lose them): the rows of a scan are allowed columns beyond the documented ones.
GROWING = {"matrices", "vectors"}


def tidy(name: str, rows: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
    """The rows as the documented table: every column present, in order, of its type; absent values missing.

    Raises:
        RunError: If a row has a column that the schema does not know.
    """
    return typed(name, {**SCHEMAS, **BESIDE_RUNS}[name], rows)


def typed(name: str, schema: tuple[Column, ...], rows: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
    """The rows as a table of these columns.

    Raises:
        RunError: If a row has a column that the schema does not know.
    """
    import pandas as pd

    known = [column.name for column in schema]
    table = pd.DataFrame(list(rows))
    extra = [column for column in table.columns if column not in known]
    if extra and name not in GROWING:
        raise RunError(f"Table '{name}' has unknown columns {first_five(extra)}. Document them in runs/schema.py.")
    columns = {column.name: _typed(table, column) for column in schema}
    return pd.DataFrame({**columns, **{column: table[column] for column in extra}})


def completed(name: str, table: "pd.DataFrame") -> "pd.DataFrame":
    """A table as an earlier version wrote it, with the columns that came later: all missing.

    Raises:
        RunError: If a column holds what its type does not allow: somebody else wrote it.
    """
    schema = {**SCHEMAS, **BESIDE_RUNS}[name]
    if wrong := [one.name for one in schema if one.name in table and not _is_of(one.kind, table[one.name])]:
        raise RunError(
            f"Table '{name}' is not as `spectra sweep` writes it: {first_five(wrong)} hold values of another type. "
            "Name a folder that it wrote."
        )
    later = {column.name: _typed(table, column) for column in schema if column.name not in table}
    return table.assign(**later)


def _is_of(kind: Kind, values: "pd.Series[Any]") -> bool:
    """Whether a column of a file holds values of this type, or nothing; whole numbers may be stored as others."""
    import pandas as pd

    is_flag = pd.api.types.is_bool_dtype(values)
    if kind in ("integer", "number") and pd.api.types.is_numeric_dtype(values) and not is_flag:
        return kind == "number" or bool((values.dropna() % 1 == 0).all())
    inferred = pd.api.types.infer_dtype(values.dropna().astype("object"))
    return inferred == "empty" or inferred in INFERRED[kind]


def _typed(table: "pd.DataFrame", column: Column) -> "pd.Series[Any]":
    """One column of the documented type."""
    import pandas as pd

    values = table[column.name] if column.name in table else pd.Series([None] * len(table), dtype="object")
    if column.kind == "text":
        return values.astype("object").where(values.notna(), "")
    return values.astype("object").where(values.notna(), None).astype(DTYPES[column.kind])  # type: ignore[call-overload]
