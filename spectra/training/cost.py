"""What a training run costs: optimiser memory, peak memory, time in optimiser steps."""

import contextlib
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState


def optimiser_bytes(optimiser: torch.optim.Optimizer) -> int:
    """Memory of the optimiser's state, as it stands."""
    return sum(
        value.numel() * value.element_size()
        for state in optimiser.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor)
    )


def start_peak_memory() -> None:
    """Forget the peak so far, so that `peak_memory_bytes` speaks of what follows.

    On a CPU under Linux the kernel's own high-water mark is reset; where that cannot be, the figure is the peak
    since the process began.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        with contextlib.suppress(OSError):  # a container may forbid it
            Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes() -> int:
    """Peak memory since `start_peak_memory`: of the GPU where there is one, of this process otherwise."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class StepClock(TrainerCallback, ExportableState):
    """Seconds spent between the beginning and the end of optimiser steps, carried over resumptions.

    Validation, logging and the writing of checkpoints are not counted. The Trainer writes the state into every
    checkpoint and hands it back when it resumes.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.before = 0.0  # what earlier calls took
        self._began: float | None = None

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"args": {}, "attributes": {"seconds": self.seconds}}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take up the time of the run that is resumed."""
        kept = state.stateful_callbacks.get(type(self).__name__)
        if isinstance(kept, dict):
            self.seconds = self.before = float(kept.get("attributes", {}).get("seconds", 0.0))

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Stop the clock; a GPU works ahead, so it is waited for at the last step only."""
        if torch.cuda.is_available() and state.global_step >= state.max_steps:
            torch.cuda.synchronize()
        if self._began is not None:
            self.seconds += time.perf_counter() - self._began
