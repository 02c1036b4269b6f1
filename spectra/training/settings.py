"""Everything that decides the outcome of one training run, as plain values: how it is scored, trained, and by what.

Each field is declared here and nowhere else: a sweep's specification takes the shared ones over with their bounds.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Lt

from spectra.errors import SpecificationError

Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["float32", "bfloat16", "float16"]
Quantisation = Literal["nf4", "int8"]
BaseDtype = Literal["bfloat16"]
# As transformers names them; the 8-bit ones are those of bitsandbytes.
Optimiser = Literal["adamw_torch", "adamw_torch_fused", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd"]
Attention = Literal["eager", "sdpa", "flash_attention_2"]
Count = Annotated[int, Gt(0)]
# Whole copies of the weights (PyTorch's DistributedDataParallel), or weights divided among the processes.
Distribution = Literal["ddp", "fsdp2"]


@dataclass(frozen=True)
class Launch:
    """Several processes that share one training, started by `accelerate launch`.

    Attributes:
        accelerate: Path of accelerate's configuration.
        processes: How many.
        distribution: What each of them holds of the weights.
        on_cpu: Whether they leave GPUs alone.
    """

    accelerate: str
    processes: Annotated[int, Gt(1)]
    distribution: Distribution
    on_cpu: bool = False


@dataclass(frozen=True)
class Scoring:
    """How a model is scored on a split of its task.

    Attributes:
        base: The pre-trained model: hub id, folder or asset.
        batch_size: Examples per backward pass, of all processes of a launch together; twice as many are scored at once.
        max_length: Tokens per example; longer ones are cut.
        precision: Arithmetic of the forward and backward pass; weights and optimiser stay in float32.
        validation_metric: What a score is, by its name in `training.metrics`; None takes the family's own (accuracy,
            or the negative loss). "rouge-l" generates the answers of a task of sources and targets.
        validation_examples: At most this many validation examples; None takes all.
        test_examples: At most this many test examples; None takes all.
    """

    base: str
    _: KW_ONLY
    batch_size: Count = 16
    max_length: Count = 128
    precision: Precision = "float32"
    validation_metric: str | None = None
    validation_examples: Count | None = None
    test_examples: Count | None = None


@dataclass(frozen=True)
class Recipe(Scoring):
    """What the methods of a sweep share, so that they differ in what they train and in their learning rate alone.

    Attributes:
        steps: Optimiser steps; None when `epochs` is given.
        epochs: Passes over the training split; None when `steps` is given.
        gradient_accumulation: Backward passes per optimiser step.
        schedule: Shape of the learning rate after the warm-up.
        warmup: Share of the steps in which the learning rate rises, in [0, 1).
        weight_decay: Not applied to biases and norms.
        max_grad_norm: Gradients are clipped to this norm.
        head_learning_rate: Of a new task head; None means the body's.
        quantisation: Hold the frozen base in 4-bit NormalFloat ("nf4") or 8 bits under an adapter (QLoRA); None does
            not. W0 of every comparison is the published checkpoint, not its quantised copy.
        base_dtype: How the frozen weights under an adapter are held: "bfloat16", or None for float32. What is trained
            is float32 always (the whole model in full fine-tuning), so that no small step is lost to rounding.
        optimiser: By transformers' name; None takes the Trainer's own, AdamW.
        attention: Implementation of the attention, by transformers' name; None takes the model's own.
        gradient_checkpointing: Recompute activations in the backward pass to save memory.
        evaluate_every: Optimiser steps between validations; None validates once, at the end.
        train_examples: At most this many training examples; None takes all.
        group_by_length: Put examples of similar length into a batch, so that little of it is padding; the batches are
            other ones, and still the same for all methods of a seed.
    """

    _: KW_ONLY
    steps: Count | None = None
    epochs: Annotated[float, Gt(0)] | None = None
    gradient_accumulation: Count = 1
    schedule: Schedule = "linear"
    warmup: Annotated[float, Ge(0), Lt(1)] = 0.06
    weight_decay: Annotated[float, Ge(0)] = 0.0
    max_grad_norm: Annotated[float, Gt(0)] = 1.0
    head_learning_rate: Annotated[float, Gt(0)] | None = None
    quantisation: Quantisation | None = None
    base_dtype: BaseDtype | None = None
    optimiser: Optimiser | None = None
    attention: Attention | None = None
    gradient_checkpointing: bool = False
    evaluate_every: Count | None = None
    train_examples: Count | None = None
    group_by_length: bool = False


@dataclass(frozen=True)
class TrainingSettings(Recipe):
    """One training run, fully resolved: the same settings on the same task and machine give the same model.

    Attributes:
        method: Name in `METHODS`.
        learning_rate: Peak learning rate of the body.
        seed: Of the new head, the adapter and the data order.
        rank: Rank of the update; None where the method has none.
        alpha: LoRA's alpha; None where the method has none.
        target_modules: "all-linear", "attention", "qv" or module names.
        arguments: Further arguments of the method, passed through to peft.
        launch: The processes that share the training; None trains in one.
    """

    method: str
    learning_rate: float
    seed: int
    rank: Count | None = None
    alpha: Annotated[float, Gt(0)] | None = None
    target_modules: str | tuple[str, ...] = "all-linear"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    launch: Launch | None = None

    def __post_init__(self) -> None:
        """Exactly one of steps and epochs decides the length of the training."""
        if (self.steps is None) == (self.epochs is None):
            raise SpecificationError(f"steps is {self.steps} and epochs is {self.epochs}. Give exactly one of the two.")

    def to_dict(self) -> dict[str, Any]:
        """The settings as JSON holds them."""
        values = {**vars(self), "arguments": dict(self.arguments)}
        values["launch"] = None if self.launch is None else dict(vars(self.launch))
        if isinstance(self.target_modules, tuple):
            values["target_modules"] = list(self.target_modules)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingSettings":
        """The settings that `to_dict` wrote; unknown keys are a programmer's slip."""
        known = {one.name for one in fields(cls)}
        if unknown := set(values) - known:
            raise TypeError(f"Unknown settings: {sorted(unknown)}")
        modules, launch = values.get("target_modules", "all-linear"), values.get("launch")
        return cls(
            **{
                **values,
                "target_modules": tuple(modules) if isinstance(modules, list) else modules,
                "launch": None if launch is None else Launch(**launch),
            }
        )
