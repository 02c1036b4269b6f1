"""Measuring leaves no trace: modes, gradients and random states afterwards are those before."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Evaluate without gradients, in evaluation mode; then restore each module's mode and every random state.

    The mode is kept per module: a model may have frozen parts in evaluation mode while the rest trains.
    """
    modes = [(module, module.training) for module in model.modules()]
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = sorted({parameter.device.index or 0 for parameter in model.parameters() if parameter.is_cuda})
    try:
        with torch.random.fork_rng(devices=devices), torch.no_grad():
            model.eval()
            yield
    finally:
        for module, training in modes:
            module.training = training
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def active_adapters(model: nn.Module) -> tuple[str, ...]:
    """Names of the adapters that take part in the forward pass: switched on, or merged into the weights."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    names: set[str] = set()
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            names.update(module.merged_adapters)
            if not module.disable_adapters:
                names.update(module.active_adapters)
    return tuple(sorted(names))
