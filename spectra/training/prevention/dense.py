"""The weights of full fine-tuning, and copies of them as they were before it."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spectra.errors import ModelError
from spectra.training.modules import head_modules, linear_modules


@dataclass(frozen=True, eq=False)
class DenseWeight:
    """One trained weight and its W0.

    Attributes:
        name: Of the parameter.
        parameter: As it stands now.
        W0: A copy, on the same device.
    """

    name: str
    parameter: nn.Parameter
    W0: Tensor


def matrices(model: Any, rule: str) -> list[DenseWeight]:
    """The trained weights of the linear layers in the numbered blocks: what a scan compares.

    Raises:
        ModelError: If there is none.
    """
    modules = dict(model.named_modules())
    found = [
        _copied(f"{name}.weight", modules[name].weight)
        for name in linear_modules(model)
        if modules[name].weight.requires_grad
    ]
    if not found:
        raise ModelError(f"{rule} is kept by the linear layers of the blocks, and none of them is trained. Train them.")
    return found


def everything_but_the_head(model: Any, rule: str) -> list[DenseWeight]:
    """All trained weights that come from the base: a new head has no W0 worth going back to.

    Raises:
        ModelError: If there is none.
    """
    heads = tuple(f"{name}." for name in head_modules(model))
    found = [
        _copied(name, parameter)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and not name.startswith(heads)
    ]
    if not found:
        raise ModelError(f"{rule} is kept by the weights of the base, and none of them is trained. Train them.")
    return found


def _copied(name: str, parameter: nn.Parameter) -> DenseWeight:
    return DenseWeight(name, parameter, parameter.detach().clone())


@torch.no_grad()
def towards_start(weight: DenseWeight, kept: float) -> None:
    """Keep a share of the update:  W -> W0 + kept (W - W0)."""
    weight.parameter.copy_(weight.W0 + kept * (weight.parameter - weight.W0))
