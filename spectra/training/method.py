"""What a training method is: one entry of the table in `training.adapt`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from spectra.records.naming import trains_all_weights, written
from spectra.training.settings import TrainingSettings

if TYPE_CHECKING:
    from peft import PeftConfig

    from spectra.training.prevention.rule import UpdateRule

TaskType = Literal["SEQ_CLS", "CAUSAL_LM", "SEQ_2_SEQ_LM"]
Arguments = Mapping[str, Any]
# Arguments that a label says in words of its own, and the most modules that it names.
SAID_ALREADY = ("peft_type", "rank_pattern", "alpha_pattern", "target_modules")
NAMED_MODULES = 8


@dataclass(frozen=True)
class Method:
    """One way of fine-tuning.

    Attributes:
        name: What a specification calls it.
        documentation: One line for people.
        config: The peft configuration for these settings, given the arguments that all adapters share; None for
            full fine-tuning.
        has_rank: Whether a specification gives a rank.
        has_alpha: Whether a specification gives an alpha.
        has_arguments: Whether a specification may give further arguments.
        prepare: Changes the wrapped model before training, such as freezing a factor.
        rate_factor: Factor on the learning rate of a parameter, by its name.
        fixed_scaling: Whether B @ A carries one factor throughout, decided by rank and alpha.
        title: What reports call it; empty takes the name.
        needs_rank: Whether a rank has to be given, where there is one.
        rank_stabilised: Whether the scaling of B @ A is alpha/sqrt(rank).
        changes_base: True where the adapter's initialisation takes a part out of W0, so that what is saved has to be
            expressed against the published W0.
        own_arguments: Names of the arguments that are the method's own; peft is given the others.
        rule: What is kept of the update after every optimiser step, for these settings; None keeps nothing.
        text_arguments: Of the method's own arguments, those that name a task whose texts are trained on.
    """

    name: str
    documentation: str
    config: Callable[[TrainingSettings, Arguments], "PeftConfig"] | None
    has_rank: bool = True
    has_alpha: bool = True
    has_arguments: bool = True
    prepare: Callable[[nn.Module], None] = lambda model: None
    rate_factor: Callable[[str, TrainingSettings], float] = lambda name, settings: 1.0
    fixed_scaling: bool = True
    title: str = ""
    needs_rank: bool = True
    rank_stabilised: bool = False
    changes_base: bool = False
    own_arguments: tuple[str, ...] = ()
    rule: Callable[[TrainingSettings], "UpdateRule"] | None = None
    text_arguments: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.config is None) != trains_all_weights(self.name):
            raise ValueError(
                f"Training method '{self.name}': a method that trains all weights (config=None) is called 'full-...', "
                "and no adapter is, so that tables tell the two apart."
            )

    def label(self, settings: TrainingSettings) -> str:
        """What a person calls this configuration, seed and learning rate aside."""
        given = settings.arguments
        title = str(given.get("peft_type") or self.title or self.name)
        rank = f" r={_span(settings.rank, given.get('rank_pattern'))}" if settings.rank is not None else ""
        alpha = f" α={_span(settings.alpha, given.get('alpha_pattern'))}" if settings.alpha is not None else ""
        where = given.get("target_modules", settings.target_modules)
        modules = "" if where == "all-linear" or self.config is None else f" on {_joined(where)}"
        further = "".join(
            f" {name}={written(value)}" for name, value in sorted(given.items()) if name not in SAID_ALREADY
        )
        return f"{title}{rank}{alpha}{modules}{further}"

    def own(self, settings: TrainingSettings) -> dict[str, Any]:
        """The method's own arguments, as far as they are given."""
        return {name: value for name, value in settings.arguments.items() if name in self.own_arguments}

    def others(self, settings: TrainingSettings) -> dict[str, Any]:
        """The arguments that are peft's."""
        return {name: value for name, value in settings.arguments.items() if name not in self.own_arguments}


def lora_config(**fixed: Any) -> Callable[[TrainingSettings, Arguments], "PeftConfig"]:
    """A `Method.config` of plain LoRA; the fixed fields of peft's configuration may be overridden by arguments."""

    def config(settings: TrainingSettings, shared: Arguments) -> "PeftConfig":
        from peft import LoraConfig

        return LoraConfig(**{**shared, "r": settings.rank, "lora_alpha": settings.alpha, **fixed, **settings.arguments})

    return config


def _span(value: int | float, pattern: Any) -> str:
    """A number, or from the smallest to the largest where a pattern gives some modules others."""
    numbers = [value, *pattern.values()] if isinstance(pattern, Mapping) else [value]
    return "–".join(f"{end:g}" for end in dict.fromkeys((min(numbers), max(numbers))))


def _joined(target_modules: str | Sequence[str]) -> str:
    if isinstance(target_modules, str):
        return target_modules
    return ", ".join(target_modules) if len(target_modules) <= NAMED_MODULES else f"{len(target_modules)} modules"
