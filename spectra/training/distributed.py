"""A training that several processes share: what every one of them agrees on, and the weights as one whole.

The processes are started by `accelerate launch`, and what accelerate and transformers do by themselves is left to them.
What stands here is the rest: decisions of the clock are the first process's, and weights that FSDP has divided are
gathered for whoever saves or scans them.
"""

import copy
import os
from typing import Any

import torch
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin, broadcast_object_list
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def processes() -> int:
    """How many processes share this training."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """Whether this is the first of them, which writes."""
    return os.environ.get("RANK", "0") == "0"


def agreed(decision: bool) -> bool:
    """The first process's decision, in every process."""
    if processes() == 1:
        return decision
    [first] = broadcast_object_list([decision])
    return bool(first)


def divides_weights() -> bool:
    """Whether the launch asks for FSDP2, which divides the weights among the processes."""
    asked = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return processes() > 1 and asked and os.environ.get("FSDP_VERSION", "1") == "2"


def divide_on_cpu(state: Any) -> None:
    """Have accelerate divide the weights of processes on CPUs, too.

    accelerate 1.15 reads the FSDP settings of a launch on GPUs alone, and falls back to whole copies elsewhere;
    `torch.distributed.fsdp.fully_shard`, which it calls, works over gloo.

    Args:
        state: The state of an `Accelerator` that was just made.
    """
    if not divides_weights() or state.distributed_type is not DistributedType.MULTI_CPU:
        return
    state.distributed_type = DistributedType.FSDP
    state.fsdp_plugin = FullyShardedDataParallelPlugin()
    if state.mixed_precision != "no":
        state.fsdp_plugin.set_mixed_precision(state.mixed_precision)


class WholeModel:
    """A copy of a model on the CPU of the first process, which takes up the weights of one that is divided.

    Make it before the model is divided. Memory: the whole model, once, in the first process.
    """

    def __init__(self, model: nn.Module) -> None:
        """Copy the model, in the first process only."""
        self._model = copy.deepcopy(model).cpu() if is_main_process() else None
        self._trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]

    def taken_up(self, divided: nn.Module) -> nn.Module | None:
        """The model with the weights as they are now; None in all processes but the first.

        Every process has to call this at the same time.

        Args:
            divided: The same model, divided.
        """
        own = dict(self._model.named_parameters()) if self._model is not None else {}
        parameters = dict(divided.named_parameters())
        for name in self._trained:
            whole = whole_tensor(parameters[name])
            if own:
                with torch.no_grad():
                    own[name].copy_(whole)
        return self._model


def whole_tensor(parameter: Tensor) -> Tensor:
    """A parameter as one tensor; every process has to call this at the same time."""
    return parameter.full_tensor().detach() if isinstance(parameter, DTensor) else parameter.detach()


def fill(parameter: Tensor, whole: Tensor) -> None:
    """Overwrite a parameter, or this process's share of it, by one tensor that every process has."""
    with torch.no_grad():
        if isinstance(parameter, DTensor):
            whole = distribute_tensor(
                whole.to(parameter.device, parameter.dtype), parameter.device_mesh, parameter.placements
            )
        parameter.copy_(whole)


def own_rows(batch: dict[str, Any], remainder: int, batch_size: int) -> tuple[dict[str, Any], bool]:
    """The rows of a process's part of an epoch's last batch that are not there a second time.

    accelerate fills an incomplete last batch up with rows of the beginning, so that every process has equally many. A
    training in one process sees no row twice.

    Args:
        batch: This process's part.
        remainder: Rows of the whole batch that are the epoch's own.
        batch_size: Rows of a process's part of a full batch.

    Returns:
        The part without repeated rows, at least one row; and whether that row counts.
    """
    rows = min(max(remainder - int(os.environ.get("RANK", "0")) * batch_size, 0), batch_size)
    return {name: value[: max(rows, 1)] for name, value in batch.items()}, rows > 0
