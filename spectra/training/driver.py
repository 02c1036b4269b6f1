"""One training run, from settings to a trained model: the same path for every method.

For a seed, all methods start from the same new head and see the same batches in the same order; they differ in
what `adapt.attach` makes trainable and in `adapt.parameter_groups`, and in nothing else.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor
from transformers import PrinterCallback, TrainingArguments, set_seed

from spectra.data import Cut, TaskData
from spectra.data.splits import first
from spectra.errors import RunError
from spectra.models import name_outputs
from spectra.models.causal import require_causal
from spectra.storage.keyed import digest
from spectra.training.adapt import METHODS, attach
from spectra.training.callback import SpectraCallback
from spectra.training.cost import (
    StepClock,
    optimiser_bytes,
    peak_memory_bytes,
    start_peak_memory,
)
from spectra.training.families import FAMILIES, collator, encode, family_of, in_order_of
from spectra.training.metrics import FamilyName, Metric, Values, metric_of
from spectra.training.modules import trainable_parameters
from spectra.training.quantise import load_for_training
from spectra.training.resumption import FILE as PROGRESS
from spectra.training.settings import Scoring, TrainingSettings
from spectra.training.store import KeepWeights, initial_factors
from spectra.training.trainer import (
    UNTRACKED,
    OnStep,
    OnValidation,
    PairedTrainer,
    Tracking,
    Watch,
    evaluation_arguments,
    tensorboard_files_in,
    training_arguments,
)

if TYPE_CHECKING:
    from datasets import Dataset


# Splits that this process has cut into tokens, by all that decides these: the trials of a sweep share them. datasets
# gives rows of other content another fingerprint.
_KNOWN: dict[tuple[str, ...], tuple["Dataset", Cut]] = {}
KEPT_SPLITS = 8


class TrainingStopped(Exception):  # noqa: N818 - not an error: somebody asked for it
    """Training was asked to stop; a checkpoint was written and the next run goes on from it."""


class TrainingPaused(TrainingStopped):
    """Training reached the step where it was to be paused; a checkpoint was written.

    Attributes:
        score: On the validation split, at that step.
    """

    def __init__(self, score: float) -> None:
        super().__init__()
        self.score = score


@dataclass(frozen=True)
class Evaluation:
    """A score on a split: higher is better."""

    metric: str
    score: float
    examples: int
    cut: Cut | None = None  # what was lost to the limit of the length, where that is known


Spent = Mapping[Literal["training", "validation", "trajectory"], float]  # seconds by part


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained model and what it took.

    Attributes:
        model: The model, adapters still attached.
        tokenizer: Of the base model.
        initial: Factors that the method took out of W0 before training (see `initial_factors`).
        validation: The score at the end of training.
        history: Rows of the history table, without the trial.
        steps: Optimiser steps.
        seconds: Time in optimiser steps, over all resumptions.
        spent: Time of this call alone, in training, validation and trajectory; the rest was loading.
        tokens: Tokens trained on, padding aside.
        trainable_parameters: Numbers trained, a head included.
        optimiser_bytes: Memory of the optimiser's state.
        peak_memory_bytes: Of the GPU, or of the process.
        cut: What was lost to `max_length` of the training split.
    """

    model: Any
    tokenizer: Any
    initial: dict[str, Tensor]
    validation: Evaluation
    history: tuple[dict[str, Any], ...]
    steps: int
    seconds: float
    spent: Spent
    tokens: int
    trainable_parameters: int
    optimiser_bytes: int
    peak_memory_bytes: int
    cut: Cut


def train(
    settings: TrainingSettings,
    task: TaskData,
    folder: Path,
    *,
    save_seconds: float = 120.0,
    on_step: OnStep | None = None,
    on_validation: OnValidation | None = None,
    stop: Callable[[], bool] = lambda: False,
    pause_at: int | None = None,
    watching: SpectraCallback | None = None,
    keeping: KeepWeights | None = None,
    tracking: Tracking = UNTRACKED,
    validate: Callable[[Any, Any], Evaluation] | None = None,
) -> Trained:
    """Train, or go on from the last whole checkpoint in `folder`.

    Args:
        settings: What to train and how.
        task: Its training and validation splits are used; the test split is not touched.
        folder: For the Trainer's checkpoints.
        save_seconds: Time between checkpoints.
        on_step: Called after every optimiser step.
        on_validation: Called with every validation score, and with the last one of a training that is taken up again.
        stop: Asked after every optimiser step; True writes a checkpoint and ends with `TrainingStopped`.
        pause_at: An optimiser step after which the training is scored, saved and ended with `TrainingPaused`.
        watching: Scans the weights along the way; its rows are taken up again when a training goes on.
        keeping: Saves the weights along the way.
        tracking: Trackers that receive what the Trainer logs.
        validate: Scores the trained model (with its tokenizer) at the end; None takes the family's own score.

    Raises:
        TrainingStopped: If `stop` said so.
        TrainingPaused: At `pause_at`.
        RunError: If the loss or the validation score is not finite.
    """
    start_peak_memory()
    family = family_of(task.kind, settings.base)
    set_seed(settings.seed)  # for the new head, which is therefore the same for all methods of a seed
    metric = metric_of(family, settings.validation_metric, task)
    loaded = load_for_training(settings, FAMILIES[family].model_kind, task.outputs)
    _prepare(loaded.model, family, task, settings)
    set_seed(settings.seed)  # for the adapter
    model = attach(loaded.model, settings, FAMILIES[family].task_type)
    initial = initial_factors(model, settings)
    clock = StepClock()
    resumed = last_checkpoint(folder)
    if resumed is not None and step_of(resumed) == pause_at and (score := _score_at(resumed, pause_at)) is not None:
        raise TrainingPaused(score)
    watch = Watch(save_seconds, on_step, stop, on_validation, pause_at)
    learned, train_cut = _examples(first(task.train, settings.train_examples), family, loaded.tokenizer, settings)
    validated, validation_cut = evaluation_examples(task, "validation", family, loaded.tokenizer, settings)
    trainer = _trainer(
        model,
        loaded.tokenizer,
        family,
        metric,
        settings,
        training_arguments(settings, folder, tracking),
        train_dataset=learned,
        eval_dataset=validated,
        callbacks=[clock, watch],
        pause_at=pause_at,
        tensorboard=tracking.folder,
    )
    if (rule := METHODS[settings.method].rule) is not None:
        rule(settings).attach(trainer)
    if watching is not None:
        watching.attach(trainer)
    if keeping is not None:
        keeping.begin(loaded.tokenizer, initial, trainer.whole_model)
        trainer.add_callback(keeping)
    trainer.train(resume_from_checkpoint=resumed)
    if watch.stopped:
        raise TrainingStopped
    if trainer.state.global_step == pause_at:
        raise TrainingPaused(next(row["eval_score"] for row in trainer.state.log_history[::-1] if "eval_score" in row))
    began = time.perf_counter()
    validation = validate(model, loaded.tokenizer) if validate else _evaluation(trainer, metric)
    last_validation = time.perf_counter() - began if validate else 0.0
    validation = replace(validation, cut=validation_cut)
    if not math.isfinite(validation.score):
        raise RunError(f"The validation score is {validation.score}. Lower the learning rate of this method.")
    return Trained(
        model=trainer.whole_model(),
        tokenizer=loaded.tokenizer,
        initial=initial,
        validation=validation,
        history=tuple(_history(trainer.state.log_history, trainer.state.global_step, validation)),
        steps=trainer.state.global_step,
        seconds=clock.seconds,
        spent={
            "training": clock.seconds - clock.before,
            "validation": trainer.evaluation_seconds + last_validation,
            "trajectory": _trajectory_seconds(watching, resumed),
        },
        tokens=int(trainer.state.num_input_tokens_seen),
        trainable_parameters=trainable_parameters(model),
        optimiser_bytes=optimiser_bytes(trainer.create_optimizer()),
        peak_memory_bytes=peak_memory_bytes(),
        cut=train_cut,
    )


def _trajectory_seconds(watching: SpectraCallback | None, resumed: str | None) -> float:
    """Time of the scans along the way that this call made."""
    after = step_of(resumed) if resumed else 0
    return sum(row["seconds"] for row in watching.trajectory.rows if row["step"] > after) if watching else 0.0


def _prepare(model: Any, family: FamilyName, task: TaskData, settings: TrainingSettings) -> None:
    """Write what the head means into the configuration, and refuse a language model that reads backwards."""
    if FAMILIES[family].problem_type is not None:
        model.config.problem_type = FAMILIES[family].problem_type
    if task.label_names:
        name_outputs(model.config, task.label_names)
    if FAMILIES[family].model_kind == "causal-lm":
        require_causal(model, settings.base)


def evaluate(model: Any, tokenizer: Any, task: TaskData, split: str, settings: Scoring) -> Evaluation:
    """The score of a model on a split of its task, by the code that validates while training.

    Raises:
        ModelError: If the model's head has other labels than the task.
    """
    family = family_of(task.kind, settings.base)
    metric = metric_of(family, settings.validation_metric, task)
    task = in_order_of(task, model.config, settings.base)
    dataset, cut = evaluation_examples(task, split, family, tokenizer, settings)
    trainer = _trainer(model, tokenizer, family, metric, settings, evaluation_arguments(settings), eval_dataset=dataset)
    return replace(_evaluation(trainer, metric), cut=cut)


def evaluation_examples(
    task: TaskData, split: str, family: FamilyName, tokenizer: Any, settings: Scoring
) -> tuple["Dataset", Cut]:
    """A validation or test split as tokens, by length, so that little of a batch is padding."""
    limit = settings.validation_examples if split == "validation" else settings.test_examples
    encoded, cut = _examples(first(getattr(task, split), limit), family, tokenizer, settings)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return encoded.select(sorted(range(len(encoded)), key=lengths.__getitem__)), cut


def _examples(rows: "Dataset", family: FamilyName, tokenizer: Any, settings: Scoring) -> tuple["Dataset", Cut]:
    """A split as tokens, cut once for all trainings of this process."""
    content = _content(tokenizer)
    if content is None:
        return _cut(rows, family, tokenizer, settings.max_length)
    key = (rows._fingerprint, family, content, str(settings.max_length))
    if key not in _KNOWN:
        _KNOWN[key] = _cut(rows, family, tokenizer, settings.max_length)
        if len(_KNOWN) > KEPT_SPLITS:
            del _KNOWN[next(iter(_KNOWN))]
    return _KNOWN[key]


def _cut(rows: "Dataset", family: FamilyName, tokenizer: Any, max_length: int) -> tuple["Dataset", Cut]:
    from datasets import Dataset

    encoded = encode(rows, family, tokenizer, max_length)
    return Dataset.from_list(list(encoded.examples)), encoded.cut


def _content(tokenizer: Any) -> str | None:
    """All of a tokenizer that decides the tokens; None where it cannot be told."""
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return None
    state = [tokenizer.backend_tokenizer.to_str(), tokenizer.special_tokens_map, tokenizer.chat_template]
    return digest([*state, tokenizer.truncation_side, tokenizer.model_input_names])


def last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint of the Trainer, or None.

    The Trainer writes trainer_state.json last, so a checkpoint without a readable one was cut off by a kill. One of an
    earlier version, which kept other weights, does not count.
    """
    whole = [path for path in folder.glob("checkpoint-*") if _is_whole(path)]
    return max(map(str, whole), key=step_of, default=None)


def step_of(checkpoint: str) -> int:
    """The optimiser step at which the Trainer wrote a checkpoint."""
    return int(checkpoint.rpartition("-")[2])


def _score_at(checkpoint: str, step: int) -> float | None:
    """The validation score at a step, as a checkpoint remembers it."""
    history = json.loads((Path(checkpoint) / "trainer_state.json").read_text())["log_history"]
    return next((row["eval_score"] for row in history if row["step"] == step and "eval_score" in row), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text())
    except (FileNotFoundError, ValueError):
        return False
    return bool(state) and (checkpoint / PROGRESS).is_file()


def _trainer(
    model: Any,
    tokenizer: Any,
    family: FamilyName,
    metric: Metric,
    settings: Scoring,
    arguments: TrainingArguments,
    tensorboard: Path | None = None,
    **kwargs: Any,
) -> PairedTrainer:
    with tensorboard_files_in(tensorboard):
        trainer = PairedTrainer(
            model=model,
            args=arguments,
            processing_class=tokenizer,
            data_collator=collator(family, tokenizer, model),
            preprocess_logits_for_metrics=FAMILIES[family].reduce,
            compute_metrics=lambda prediction: _score(prediction.predictions, metric),
            settings=settings,
            family=FAMILIES[family],
            **kwargs,
        )
    trainer.remove_callback(PrinterCallback)  # the history is kept; nothing needs to be printed
    return trainer


def _score(rows: Values, metric: Metric) -> dict[str, float]:
    predicted, truth = (np.squeeze(half, -1) if half.shape[-1] == 1 else half for half in np.split(rows, 2, axis=-1))
    return {"score": metric.score(predicted.astype("float64"), truth.astype("float64")), "examples": len(rows)}


def _evaluation(trainer: PairedTrainer, metric: Metric) -> Evaluation:
    measured = trainer.evaluate()
    return Evaluation(metric.name, measured["eval_score"], int(measured["eval_examples"]))


def _history(log: list[dict[str, Any]], steps: int, validation: Evaluation) -> list[dict[str, Any]]:
    """The Trainer's log as rows of the history table; the last row carries the final validation."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in log:
        if "loss" not in entry and "eval_score" not in entry:  # what a callback logged, or the final summary
            continue
        row = rows.setdefault(entry["step"], {"step": entry["step"]})
        row |= {key: entry[key] for key in ("loss", "learning_rate") if key in entry}
        if "eval_score" in entry:
            row["validation_score"] = entry["eval_score"]
    rows.setdefault(steps, {"step": steps})["validation_score"] = validation.score
    return [rows[step] for step in sorted(rows)]
