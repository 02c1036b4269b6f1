"""transformers' Trainer as this project drives it: a rate per group of parameters, checkpoints by the clock."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils.import_utils import is_torch_bf16_gpu_available

from spectra.errors import RunError
from spectra.training.adapt import parameter_groups
from spectra.training.families import Family
from spectra.training.resumption import load_progress, save_progress
from spectra.training.settings import Scoring, TrainingSettings

OnStep = Callable[[int, int], None]  # optimiser step, of how many
OnValidation = Callable[[float], None]  # the score, higher is better


@dataclass(frozen=True)
class Tracking:
    """Trackers of a training, as transformers names them.

    Attributes:
        report_to: Names, such as "tensorboard" or "wandb".
        run_name: What the trackers call the training.
        folder: Where TensorBoard's files go; None leaves them among the Trainer's checkpoints.
    """

    report_to: tuple[str, ...] = ()
    run_name: str | None = None
    folder: Path | None = None


UNTRACKED = Tracking()
TENSORBOARD = "TENSORBOARD_LOGGING_DIR"


@contextmanager
def tensorboard_files_in(folder: Path | None) -> Iterator[None]:
    """Make a Trainer whose TensorBoard files go to `folder`: a variable is the one way in that transformers 5 has."""
    before = os.environ.get(TENSORBOARD)
    if folder is not None:
        os.environ[TENSORBOARD] = str(folder)
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop(TENSORBOARD)
            if before is not None:
                os.environ[TENSORBOARD] = before


class PairedTrainer(Trainer):
    """The Trainer, with a learning rate per group of parameters and a loss over all that a step sees.

    The loss of a step is the sum over everything that is labelled in its batches, divided by how much that is, so that
    16 batches of one example and one batch of 16 are the same step. transformers leaves that to the model's own loss,
    and T5, BART and the classification heads take the mean of each batch instead.
    """

    def __init__(self, model: nn.Module, settings: Scoring, family: Family, **kwargs: Any) -> None:
        super().__init__(model, **kwargs)
        self.evaluation_seconds = 0.0
        self._settings = settings
        self._family = family
        self._trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.model_accepts_loss_kwargs = True  # the loss below is divided by what the whole step sees

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """The Trainer's own, unless the checkpoint that was taken up is of the last step: it would do another one."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The batches of a step, and how much is labelled in them."""
        batches, _ = super().get_batch_samples(*args, **kwargs)
        return batches, sum(self._family.count(batch["labels"]) for batch in batches) if batches else None

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The family's own loss; AdaLoRA's penalty, which peft adds to the model's, is added to it."""
        labels = inputs["labels"]
        given = dict(inputs)
        if not _has_penalty(model):
            del given["labels"]  # the model's own loss would be computed for nothing
        outputs = model(**given)
        count = self._family.count(labels)
        total = self._family.loss(outputs.logits, labels)
        loss = total / max(int(count if num_items_in_batch is None else num_items_in_batch), 1)
        if _has_penalty(model):
            loss = loss + (outputs.loss - total / max(int(count), 1)) / self.args.gradient_accumulation_steps
        return (loss, outputs) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """The Trainer's own optimiser on the method's groups."""
        if self.optimizer is None:
            model = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(model))
            kind, arguments = self.get_optimizer_cls_and_kwargs(self.args, model)
            settings = cast(TrainingSettings, self._settings)  # what only scores has no optimiser
            self.optimizer = kind(parameter_groups(model, settings, decayed, self._trained), **arguments)
        return self.optimizer

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """The model's part of a checkpoint."""
        save_progress(cast(nn.Module, self.model), self._trained, Path(output_dir or str(self.args.output_dir)))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Take up the model's part of a checkpoint."""
        load_progress(self.model, self._trained, Path(resume_from_checkpoint))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The Trainer's own, timed."""
        began = time.perf_counter()
        try:
            return super().evaluate(*args, **kwargs)
        finally:
            self.evaluation_seconds += time.perf_counter() - began

    def prediction_step(
        self, model: Any, inputs: Any, prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[None, Tensor, Tensor]:
        """Logits without the model's own loss, which some methods (AdaLoRA) add a penalty to."""
        inputs = self._prepare_inputs(inputs)
        labels = inputs.pop("labels")
        with torch.no_grad(), self.compute_loss_context_manager():
            return None, model(**inputs).logits, labels


def _has_penalty(model: Any) -> bool:
    return hasattr(getattr(model, "base_model", None), "update_and_allocate")


class Watch(TrainerCallback):
    """Reports steps and scores, asks for checkpoints by the clock, ends when asked to, stops at a lost loss."""

    def __init__(
        self,
        save_seconds: float,
        on_step: OnStep | None,
        stop: Callable[[], bool],
        on_validation: OnValidation | None = None,
    ) -> None:
        self.stopped = False
        self._save_seconds = save_seconds
        self._on_step = on_step
        self._on_validation = on_validation
        self._stop = stop
        self._saved = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        scores = [entry["eval_score"] for entry in state.log_history if "eval_score" in entry]
        if self._on_validation and scores:  # of a training that is taken up again
            self._on_validation(scores[-1])

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        if self._on_validation:
            self._on_validation(metrics["eval_score"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._on_step:
            self._on_step(state.global_step, state.max_steps)
        # At a logging step only, so that the mean losses of the history do not depend on when a run was resumed.
        due = state.global_step % args.logging_steps == 0 and time.monotonic() - self._saved >= self._save_seconds
        if self._stop() and state.global_step < state.max_steps:
            self.stopped = control.should_training_stop = True
        if due or self.stopped:
            control.should_save = True
            self._saved = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if loss != loss or abs(loss) == float("inf"):
            raise RunError(
                f"The training loss is {loss} at step {state.global_step}. Lower the learning rate of this method."
            )

    def on_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        # AdaLoRA moves its ranks between the optimiser's step and the clearing of the gradients.
        if _has_penalty(model):
            model.base_model.update_and_allocate(state.global_step + 1)


def training_arguments(settings: TrainingSettings, folder: Path, tracking: Tracking = UNTRACKED) -> TrainingArguments:
    """The Trainer's arguments for these settings; checkpoints are left to `Watch`."""
    given: dict[str, Any] = {"max_steps": settings.steps} if settings.steps else {"num_train_epochs": settings.epochs}
    if settings.gradient_checkpointing:
        given["gradient_checkpointing"] = True
    if settings.optimiser is not None:
        given["optim"] = settings.optimiser
    return evaluation_arguments(
        settings,
        output_dir=str(folder),
        **given,
        per_device_train_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=round(settings.warmup * settings.steps) if settings.steps else settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        data_seed=settings.seed,
        logging_steps=max(1, (settings.steps or 400) // 20),
        logging_nan_inf_filter=False,
        eval_strategy="steps" if settings.evaluate_every else "no",
        eval_steps=settings.evaluate_every,
        save_strategy="no",
        save_total_limit=1,
        include_num_input_tokens_seen="non_padding",
        report_to=list(tracking.report_to) or "none",
        run_name=tracking.run_name,
    )


def evaluation_arguments(settings: Scoring, **further: Any) -> TrainingArguments:
    """The Trainer's arguments for scoring, and further ones."""
    return TrainingArguments(
        **{
            "output_dir": ".",
            "per_device_eval_batch_size": 2 * settings.batch_size,
            "bf16": settings.precision == "bfloat16",
            # Otherwise transformers refuses bfloat16 where no GPU has it.
            "use_cpu": settings.precision == "bfloat16" and not is_torch_bf16_gpu_available(),
            "fp16": settings.precision == "float16",
            "dataloader_pin_memory": torch.cuda.is_available(),
            "remove_unused_columns": False,
            "label_names": ["labels"],
            "disable_tqdm": True,
            "report_to": "none",
            **further,
        }
    )
