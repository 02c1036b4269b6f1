"""transformers' Trainer as this project drives it: a rate per group of parameters, checkpoints by the clock."""

import os
import time
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from accelerate.utils import save_fsdp_optimizer
from torch import Tensor, nn
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.utils.import_utils import is_torch_bf16_gpu_available

from spectra.errors import ModelError, RunError
from spectra.training.adapt import parameter_groups
from spectra.training.distributed import WholeModel, agreed, divide_on_cpu, divides_weights, own_rows, processes
from spectra.training.families import Family
from spectra.training.resumption import load_progress, save_progress
from spectra.training.sampling import SimilarLengths
from spectra.training.settings import Scoring, TrainingSettings

SCHEDULER_NAME = "scheduler.pt"  # where the Trainer looks for it
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

    def __init__(
        self, model: nn.Module, settings: Scoring, family: Family, pause_at: int | None = None, **kwargs: Any
    ) -> None:
        if not hasattr(Trainer, "_run_epoch"):
            raise ModelError(
                f"The Trainer of transformers {transformers.__version__} runs its epochs otherwise than this package "
                "knows, so that a resumed training would not be the same. Install a version from 5.3 on."
            )
        super().__init__(model, **kwargs)
        self.evaluation_seconds = 0.0
        self._settings = settings
        self._pause_at = pause_at
        self._order: SimilarLengths | None = None
        self._family = family
        self._trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._whole = WholeModel(model) if divides_weights() else None
        self.model_accepts_loss_kwargs = True  # the loss below is divided by what the whole step sees

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """The Trainer's own, unless the checkpoint that was taken up is of the last step: it would do another one."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        if self._order is not None:
            self._order.set_epoch(kwargs["epoch"])
        super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """The Trainer's own random order, or one of similar lengths."""
        settings = cast(TrainingSettings, self._settings)  # what only scores has no training split
        if not settings.group_by_length:
            return super()._get_train_sampler(train_dataset)
        rows = self.train_dataset if train_dataset is None else train_dataset
        lengths = [len(ids) for ids in cast(Any, rows)["input_ids"]]
        self._order = SimilarLengths(lengths, settings.batch_size, settings.seed)
        return self._order

    def whole_model(self) -> nn.Module | None:
        """The model with all of its weights; None in every process but the first where they are divided.

        Every process has to call this at the same time.
        """
        model = cast(nn.Module, self.model)
        return model if self._whole is None else self._whole.taken_up(model)

    def create_accelerator_and_postprocess(self) -> None:
        """The Trainer's own, and weights that are divided on CPUs, too."""
        super().create_accelerator_and_postprocess()
        divide_on_cpu(self.accelerator.state)
        self.is_fsdp_enabled = getattr(self.accelerator.state, "fsdp_plugin", None) is not None

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The batches of a step, and how much is labelled in them and in those of the other processes."""
        batches, _ = super().get_batch_samples(*args, **kwargs)
        if not batches:
            return batches, None
        if self.args.world_size == 1:
            return batches, sum(self._family.count(batch["labels"]) for batch in batches)
        counts, rows = True, self.args.per_device_train_batch_size
        # What accelerate knows of the rest is wrong in an epoch that is taken up in its middle.
        remainder = len(cast(Sized, self.train_dataset)) % (rows * self.args.world_size)
        if self.accelerator.gradient_state.end_of_dataloader and remainder:
            batches[-1], counts = own_rows(batches[-1], remainder, rows)
        kept = batches if counts else batches[:-1]
        own = torch.as_tensor(sum(int(self._family.count(batch["labels"])) for batch in kept))
        batches[-1]["counts"] = counts
        return batches, self.accelerator.gather(own.to(self.args.device)).sum()

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The family's own loss; AdaLoRA's penalty, which peft adds to the model's, is added to it."""
        given = dict(inputs)
        counts = given.pop("counts", True)
        labels = given["labels"]
        if not _has_penalty(model):
            del given["labels"]  # the model's own loss would be computed for nothing
        outputs = model(**given)
        count = self._family.count(labels)
        total = self._family.loss(outputs.logits, labels)
        loss = total / max(int(count if num_items_in_batch is None else num_items_in_batch), 1)
        if num_items_in_batch is not None:  # of the whole step; the mean over the processes is taken of the gradients
            loss = loss * (self.args.world_size if counts else 0)
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

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The Trainer's own; weights that are divided are gathered by all processes and written by the first."""
        if self._whole is None:
            super().save_model(output_dir, _internal_call)
        elif (whole := self.whole_model()) is not None:
            save_progress(whole, self._trained, Path(output_dir or str(self.args.output_dir)))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """The Trainer's own, without a second copy of weights that are divided."""
        if self._whole is None:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        save_fsdp_optimizer(
            self.accelerator.state.fsdp_plugin, self.accelerator, self.optimizer, self.model, output_dir
        )
        if self.args.should_save:
            torch.save(cast(Any, self.lr_scheduler).state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _save_rng_state(self, output_dir: str) -> None:
        """The Trainer's own; what it writes next says that the checkpoint is whole, so every process has to be here."""
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Take up the model's part of a checkpoint."""
        load_progress(self.model, self._trained, Path(resume_from_checkpoint))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The Trainer's own, timed; at a pause that asks for it alone, it draws no random number of the training's."""
        began = time.perf_counter()
        every = getattr(self._settings, "evaluate_every", None)
        added = self.state.global_step == self._pause_at and not (every and self.state.global_step % every == 0)
        try:
            with torch.random.fork_rng(enabled=added):
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
    """Reports steps and scores, asks for checkpoints by the clock, ends when asked to, stops at a lost loss.

    At the step `pause_at` the training is validated, saved and ended.
    """

    def __init__(
        self,
        save_seconds: float,
        on_step: OnStep | None,
        stop: Callable[[], bool],
        on_validation: OnValidation | None = None,
        pause_at: int | None = None,
    ) -> None:
        self.stopped = False
        self._pause_at = pause_at
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
        at_logging = state.global_step % args.logging_steps == 0
        due = at_logging and agreed(time.monotonic() - self._saved >= self._save_seconds)
        if agreed(self._stop()) and state.global_step < state.max_steps:
            self.stopped = control.should_training_stop = True
        if due or self.stopped:
            control.should_save = True
            self._saved = time.monotonic()
        if state.global_step == self._pause_at:
            self.stopped = False  # it ends here anyway, with its score
            control.should_evaluate = control.should_save = control.should_training_stop = True

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
        per_device_train_batch_size=settings.batch_size // processes(),
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


def _on_cpu(settings: Scoring) -> bool:
    """Whether the Trainer has to be told to leave GPUs alone, or that there is none."""
    if settings.precision == "bfloat16" and not is_torch_bf16_gpu_available():
        return True
    launch = getattr(settings, "launch", None)
    return processes() > 1 and (not torch.cuda.is_available() or bool(launch and launch.on_cpu))


def evaluation_arguments(settings: Scoring, **further: Any) -> TrainingArguments:
    """The Trainer's arguments for scoring, and further ones."""
    return TrainingArguments(
        **{
            "output_dir": ".",
            "per_device_eval_batch_size": 2 * settings.batch_size // processes(),
            "bf16": settings.precision == "bfloat16",
            # Otherwise transformers refuses bfloat16 where no GPU has it, and processes find one another on GPUs alone.
            "use_cpu": _on_cpu(settings),
            "fp16": settings.precision == "float16",
            "dataloader_pin_memory": torch.cuda.is_available(),
            "remove_unused_columns": False,
            "label_names": ["labels"],
            "disable_tqdm": True,
            "report_to": "none",
            **further,
        }
    )
