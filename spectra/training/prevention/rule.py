"""A rule of an update: what is made of the weights after every optimiser step, in any Trainer or loop."""

from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from spectra.errors import ModelError, SpectrumError
from spectra.training.prevention.moment import Moment

if TYPE_CHECKING:
    from transformers import Trainer

Self = TypeVar("Self", bound="UpdateRule")


class UpdateRule:
    """What every rule has in common; one rule serves one training.

    In a loop of one's own: `rule.begin(model)` before training, `rule.before_step()` when the gradients stand, and
    `rule.keep(Moment(step, steps, rate))` after every optimiser step.
    """

    def begin(self, model: nn.Module) -> None:
        """Learn what W0 is, and bring the untrained adapter under the rule.

        Args:
            model: The model as it is about to be trained: adapters attached, nothing trained yet.

        Raises:
            ModelError: If the rule has no meaning for this model.
        """
        raise NotImplementedError

    def before_step(self) -> None:
        """Change the gradients before the optimiser sees them; most rules leave them alone."""

    def keep(self, moment: Moment) -> None:
        """Bring the weights under the rule. Weights that keep it already are left as they are, to the last bit."""
        raise NotImplementedError

    def attach(self: Self, trainer: "Trainer") -> Self:
        """Keep the rule in a training; call it before `trainer.train()`, also where a training is resumed.

        Args:
            trainer: A transformers Trainer or one of its kin, such as TRL's SFTTrainer. Its model holds the weights
                before training.

        Returns:
            The rule.

        Raises:
            ModelError: If the rule has no meaning for this model, or the Trainer keeps its weights elsewhere.
        """
        from spectra.training.prevention.keeping import KeepRule, whole_model

        name = type(self).__name__
        if getattr(trainer, "is_deepspeed_enabled", False) or getattr(trainer, "is_fsdp_enabled", False):
            raise ModelError(
                f"{name} changes weights after the optimiser's step, and DeepSpeed and FSDP keep copies or parts of "
                "them. Train on one device, or with plain data parallelism."
            )
        if trainer.model is None:
            raise ModelError(f"The Trainer has no model, and {name} has to see it before training. Give it one.")
        self.begin(whole_model(trainer.model))
        trainer.add_callback(KeepRule(self))
        return self


def require_number(
    name: str, value: Any, *, above: float | int | None = None, least: int | None = None, most: int | None = None
) -> float:
    """A setting as a number within its bounds.

    Raises:
        SpectrumError: If it is none, or outside.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and value == value
    bounds = [
        f"above {above:g}" if above is not None else "",
        f"of at least {least:g}" if least is not None else "",
        f"of at most {most:g}" if most is not None else "",
    ]
    if (
        not is_number
        or (above is not None and not value > above)
        or (least is not None and value < least)
        or (most is not None and value > most)
        or abs(value) == float("inf")
    ):
        raise SpectrumError(
            f"{name} is {value!r}. Give a number {' and '.join(filter(None, bounds))}.".replace("  ", " ")
        )
    return float(value)


def require_count(name: str, value: Any) -> int:
    """A setting as a whole number of at least 1.

    Raises:
        SpectrumError: If it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise SpectrumError(f"{name} is {value!r}. Give a whole number of at least 1.")
    return value
