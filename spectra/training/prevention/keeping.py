"""How a rule is kept by transformers' Trainer."""

from typing import Any

from accelerate.utils import extract_model_from_parallel
from torch import nn
from transformers import TrainerCallback

from spectra.training.prevention.moment import Kept, Moment


def whole_model(model: Any) -> nn.Module:
    """The model inside what distributes or compiles it."""
    found: nn.Module = extract_model_from_parallel(model, keep_torch_compile=False)
    return found


class KeepRule(TrainerCallback):
    """Calls a rule where the Trainer says: before and after every optimiser step, and where a training goes on."""

    def __init__(self, rule: Kept) -> None:
        self.rule = rule

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The weights of a checkpoint may come from a training without the rule."""
        self.rule.keep(Moment(state.global_step, state.max_steps))

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """The gradients stand."""
        self.rule.before_step()

    def on_optimizer_step(self, args: Any, state: Any, control: Any, optimizer: Any = None, **kwargs: Any) -> None:
        """The optimiser has made its step, and its groups hold the rates that it made it with."""
        rates = {id(parameter): float(group["lr"]) for group in optimizer.param_groups for parameter in group["params"]}
        # The Trainer counts the step only afterwards.
        self.rule.keep(Moment(state.global_step + 1, state.max_steps, lambda parameter: rates.get(id(parameter), 0.0)))
