"""What a sweep is: one validated specification, the same from YAML and from Python."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PositiveInt, model_validator

from spectra.sweep.spec.requirements import TRACKERS
from spectra.sweep.spec.values import Alpha, LearningRates, expand_integers, one_or_many
from spectra.training.adapt import METHODS
from spectra.training.metrics import METRICS, WRITTEN
from spectra.training.settings import Recipe

Keep = Literal["adapters", "all", "none"]
StoreDtype = Literal["bfloat16"]
Ranks = Annotated[list[PositiveInt], BeforeValidator(expand_integers)]
Steps = Annotated[list[PositiveInt], BeforeValidator(expand_integers)]
Trackers = Annotated[list[str], BeforeValidator(one_or_many)]
LARGEST_SEED = 2**32 - 1  # numpy's
Seeds = Annotated[
    list[Annotated[int, Field(ge=0, le=LARGEST_SEED)]], BeforeValidator(expand_integers), Field(min_length=1)
]


class _Strict(BaseModel, frozen=True):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class LaunchSpecification(_Strict, frozen=True):
    """Several processes per trial, started by `accelerate launch`.

    Attributes:
        accelerate: Path of the configuration that `accelerate config` writes.
    """

    accelerate: Annotated[str, Field(min_length=1)]


class MethodSpecification(_Strict, frozen=True):
    """One method with its ranks, alphas, its own grid of learning rates and, where it needs one, its own launch."""

    method: str
    rank: Ranks = []
    alpha: Annotated[list[Alpha], BeforeValidator(one_or_many)] = []
    learning_rate: LearningRates
    target_modules: str | list[str] = "all-linear"
    arguments: dict[str, Any] = {}
    launch: LaunchSpecification | None = None

    @model_validator(mode="before")
    @classmethod
    def _fits_the_method(cls, values: Any) -> Any:
        """Ranks, alphas and arguments stand where the method has them, and alpha is 2r unless said otherwise."""
        if not isinstance(values, Mapping) or values.get("method") not in METHODS:
            return values
        method = METHODS[values["method"]]
        if not isinstance(values.get("arguments") or {}, Mapping):
            return values
        if method.config is None and values.get("target_modules", "all-linear") != "all-linear":
            raise ValueError(f"method '{method.name}' trains all weights and has no target_modules; remove them")
        arguments = values.get("arguments") or {}
        if "ratio" in arguments and "ratio" not in method.own_arguments:
            raise ValueError(f"method '{method.name}' has no ratio of learning rates; use lora+, or remove it")
        unknown = [name for name in arguments if method.config is None and name not in method.own_arguments]
        if unknown and method.has_arguments:
            known = " and ".join(method.own_arguments)
            raise ValueError(f"method '{method.name}' has no argument {unknown[0]}; it has {known}")
        optional = not method.needs_rank
        if method.has_rank and not optional and not values.get("rank"):
            raise ValueError(f"method '{method.name}' needs a rank; add, for example, rank: [1, 8, 64]")
        for name, allowed in (("rank", method.has_rank), ("alpha", method.has_alpha)):
            if values.get(name) and not allowed:
                raise ValueError(f"method '{method.name}' has no {name}; remove it")
        if values.get("arguments") and not method.has_arguments:
            raise ValueError(f"method '{method.name}' takes no arguments; remove them")
        if method.has_alpha and not optional and "alpha" not in values:
            return {**values, "alpha": ["2r"]}
        return values

    @model_validator(mode="after")
    def _is_known(self) -> "MethodSpecification":
        if self.method not in METHODS:
            raise ValueError(f"method '{self.method}' is unknown; choose one of {', '.join(METHODS)}")
        if isinstance(self.learning_rate, dict):
            missing = [rank for rank in self.rank if rank not in self.learning_rate]
            if missing or not self.rank:
                raise ValueError(f"learning_rate has no entry for rank {missing or 'none'}; add one per rank")
        return self


class HeldOutSpecification(_Strict, frozen=True):
    """A held-out task with settings of its own, as `spectra.forgetting.HeldOut` documents them."""

    task: str | dict[str, Any]
    name: str | None = None
    measure: str | None = None
    limit: PositiveInt | None = None
    fit_limit: PositiveInt | None = None
    max_length: Annotated[int, Field(ge=2)] | None = None
    neighbours: PositiveInt | None = None
    instruction: str | None = None
    max_new_tokens: PositiveInt | None = None
    lm_eval_metric: str | None = None
    options: dict[str, Any] | None = None

    @model_validator(mode="before")
    @classmethod
    def _task_in_place(cls, value: Any) -> Any:
        """Fields of a task beside the settings, as --heldout takes them, are a task."""
        if not isinstance(value, Mapping) or "task" in value or not {"path", "hub"} & set(value):
            return value
        own = set(cls.model_fields) - {"task", "name"}
        task = {name: inner for name, inner in value.items() if name not in own}
        return {"task": task, **{name: inner for name, inner in value.items() if name in own}}

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that are stated; null states nothing."""
        return self.model_dump(exclude={"task"}, exclude_unset=True, exclude_none=True)


def checkpoint_or_mapping(value: Any) -> Any:
    """A reference alone stands for a checkpoint of which nothing more is known."""
    return {"checkpoint": value} if isinstance(value, str) else value


class CheckpointSpecification(_Strict, frozen=True):
    """A checkpoint that exists already, and what it is known of it; only the reference is needed."""

    checkpoint: str
    label: str = ""
    method: str = ""
    rank: PositiveInt | None = None
    alpha: Annotated[float, Field(gt=0)] | None = None


class Specification(_Strict, Recipe, frozen=True):
    """A sweep: one base, one task, any number of held-out tasks, of methods to train and of existing checkpoints.

    How everything is trained and scored is a `Recipe`, which all methods share.
    """

    title: str = ""
    task: str | dict[str, Any] | None
    tasks: Annotated[list[str | dict[str, Any]], Field(min_length=2)] | None = None
    merge: bool | None = None
    heldout: list[str | HeldOutSpecification] = []
    methods: list[MethodSpecification]
    checkpoints: list[Annotated[CheckpointSpecification, BeforeValidator(checkpoint_or_mapping)]] = []
    seeds: Seeds = [0]

    k: PositiveInt = 10
    epsilon: Annotated[float, Field(gt=0, le=1)] = 0.5
    controls: bool = True
    trajectory: Annotated[int, Field(ge=0)] = 10
    early_stopping: Steps | None = None
    keep: Keep = "adapters"
    keep_steps: Steps | None = None
    store_dtype: StoreDtype | None = None
    report_to: Trackers = []
    launch: LaunchSpecification | None = None

    @model_validator(mode="before")
    @classmethod
    def _a_sequence_or_existing_checkpoints_need_no_task(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and values.get("tasks"):
            values = {"task": None, **values}
        if isinstance(values, Mapping) and "checkpoints" in values:
            values = {"task": None, "methods": [], **values}
        return values

    @model_validator(mode="after")
    def _is_complete(self) -> "Specification":
        if not self.methods and not self.checkpoints:
            raise ValueError("methods is empty; add a method to train, or checkpoints that exist already")
        if self.methods and not self.sequence:
            raise ValueError("methods are trained on a task, and there is none; add task")
        if self.tasks and (self.task is not None or self.checkpoints):
            raise ValueError("tasks are learnt one after the other, and nothing else is; remove task and checkpoints")
        if self.merge is not None and not self.tasks:
            raise ValueError("merge says how a sequence of tasks goes on, and there is none; add tasks or remove merge")
        if self.methods and (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs, and not both")
        return self

    @model_validator(mode="after")
    def _keeps_steps_that_come(self) -> "Specification":
        late = [step for step in self.keep_steps or [] if self.steps is not None and step > self.steps]
        if late:
            raise ValueError(f"keep_steps has step {late[0]}, and the training has {self.steps} steps; remove it")
        return self

    @model_validator(mode="after")
    def _stops_before_the_end(self) -> "Specification":
        if not self.early_stopping:
            return self
        if self.tasks:
            raise ValueError("early_stopping compares trainings on one task; remove it, or tasks")
        if self.steps is None:
            raise ValueError("early_stopping names optimiser steps; give steps instead of epochs")
        if late := [step for step in self.early_stopping if step >= self.steps]:
            raise ValueError(f"early_stopping has step {late[0]}, and the training has {self.steps} steps; remove it")
        if self.validation_metric == WRITTEN:
            raise ValueError(f"validation_metric '{WRITTEN}' is measured at the end of training; remove early_stopping")
        return self

    @model_validator(mode="after")
    def _validates_once(self) -> "Specification":
        if self.validation_metric == WRITTEN and self.evaluate_every:
            raise ValueError(
                f"validation_metric '{self.validation_metric}' is measured at the end of training; "
                "remove evaluate_every"
            )
        return self

    @model_validator(mode="after")
    def _scores_by_a_known_metric(self) -> "Specification":
        if self.validation_metric not in (None, WRITTEN, *METRICS):
            known = ", ".join((*METRICS, WRITTEN))
            raise ValueError(f"validation_metric '{self.validation_metric}' is unknown; choose one of {known}")
        return self

    @model_validator(mode="after")
    def _quantises_what_is_frozen(self) -> "Specification":
        trained = [
            one.method for one in self.methods if METHODS[one.method].config is None or METHODS[one.method].changes_base
        ]
        if self.quantisation and trained:
            raise ValueError(
                f"quantisation is {self.quantisation}, but method '{trained[0]}' changes the base's own weights; "
                "remove the one or the other"
            )
        return self

    @model_validator(mode="after")
    def _rounds_what_is_frozen(self) -> "Specification":
        if self.base_dtype is None:
            return self
        if self.quantisation:
            raise ValueError(
                f"base_dtype is {self.base_dtype} and quantisation is {self.quantisation}; give one of the two"
            )
        if self.precision != self.base_dtype:
            raise ValueError(
                f"base_dtype is {self.base_dtype} and precision is {self.precision}; add precision: {self.base_dtype}"
            )
        changing = [one.method for one in self.methods if METHODS[one.method].changes_base]
        if changing:
            raise ValueError(
                f"base_dtype is {self.base_dtype}, but method '{changing[0]}' takes a part out of the base, and "
                "the rest would be rounded; remove the one or the other"
            )
        return self

    @model_validator(mode="after")
    def _launches_what_processes_can_share(self) -> "Specification":
        launched = [one for one in self.methods if (one.launch or self.launch) is not None]
        if launched and self.quantisation:
            raise ValueError(
                f"quantisation is {self.quantisation}, which several processes cannot share; remove launch"
            )
        if launched and self.validation_metric == WRITTEN:
            raise ValueError(
                f"validation_metric is '{WRITTEN}', which is generated by one process; remove launch, or the metric"
            )
        for one in launched:
            if one.method == "adalora" or METHODS[one.method].rule is not None:
                raise ValueError(
                    f"method '{one.method}' looks at whole matrices or batches after every step, and the processes of "
                    "a launch hold parts of them; give launch to the other methods alone"
                )
        return self

    @model_validator(mode="after")
    def _names_trackers(self) -> "Specification":
        unknown = [name for name in self.report_to if name not in TRACKERS]
        if unknown:
            raise ValueError(f"report_to '{unknown[0]}' is unknown; choose among {', '.join(TRACKERS)}")
        return self

    @property
    def sequence(self) -> tuple[str | dict[str, Any], ...]:
        """The tasks that are trained on, in their order: one as a rule, none where nothing is trained or scored."""
        return tuple(self.tasks or ([] if self.task is None else [self.task]))

    @property
    def merges(self) -> bool:
        """Whether a task of a sequence starts from what the tasks before it left."""
        return self.merge is not False


# Fields that a later call may change in a run folder: they reach no figure, or only add trials and held-out tasks
# (what of a launch reaches the figures is part of a trial's identity).
GROWING = ("title", "methods", "checkpoints", "seeds", "heldout", "keep", "report_to", "launch")
# What a record means that lacks a field, because its version did not know it yet.
DEFAULTS: Mapping[str, Any] = Specification.model_construct().model_dump(mode="json")
# Fields that all rows of one run folder share, because they would not be comparable otherwise; each with its default.
SHARED = {name: DEFAULTS.get(name) for name in Specification.model_fields if name not in GROWING}
