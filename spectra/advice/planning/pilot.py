"""The pilot of a plan: short trainings at a few learning rates, and one step of plain gradient descent.

Both are sweeps, so that all is checked, trained, scanned and measured by the code that will train what is advised, and
a pilot that was stopped goes on. One step of gradient descent at a constant rate changes the weights by a multiple of
the gradient (clipped as a whole), which is then measured as any update is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from spectra.advice.bracketing import Bracketed, bracketed
from spectra.advice.rates import grid
from spectra.data import load_task
from spectra.errors import CheckpointError, SpecificationError, first_five
from spectra.models import resolve_model
from spectra.runs import Run
from spectra.storage.destinations import mark
from spectra.sweep import Specification, read_specification, run_sweep
from spectra.sweep.execution.schedule import OnEvent
from spectra.sweep.preflight.look import preflight
from spectra.sweep.spec.plan import plan as planned
from spectra.sweep.sweep import Executor
from spectra.training.modules import linear_modules
from spectra.training.skeleton import Bare, bare
from spectra.weights.formats.checkpoint import open_checkpoint
from spectra.weights.formats.hub import locate

FIRST = {"lora": 1e-3, "full": 3.2e-4}  # middle of the grid that the pilot begins with
GRADIENT_RATE = 0.5  # the update is the gradient times this: large against the rounding of W0
GRADIENT_BATCHES = 4  # whose mean gradient is looked at
TEST_EXAMPLES = 8  # a sweep scores its chosen trials; nothing is made of a pilot's
BYTES_PER_NUMBER = 16  # of full fine-tuning in float32 with AdamW: weight, gradient, two moments
SPARE = 0.7  # share of the free memory that the weights of a training may take; activations need the rest


@dataclass(frozen=True)
class PilotSettings:
    """What a pilot trains.

    Attributes:
        base: Asset name, folder or hub id.
        task: As a sweep's specification takes it.
        heldout: Held-out tasks, likewise.
        steps: Optimiser steps of each training.
        rank: Of its LoRA; a smaller matrix lowers it.
        full: Whether all weights are trained too; None: where they fit into memory.
        recipe: Further fields of the specification, which the advised sweep shares.
        seed: Of heads, adapters and batches.
        k: Leading vectors looked at per matrix.
        epsilon: Cosine below which a vector counts.
    """

    base: str
    task: str | Mapping[str, Any]
    heldout: tuple[str | Mapping[str, Any], ...] = ()
    steps: int = 20
    rank: int = 64
    full: bool | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0
    k: int = 10
    epsilon: float = 0.5

    def specification(self, methods: Sequence[Mapping[str, Any]], **fields: Any) -> Specification:
        """A sweep of these methods on the base, the task and the recipe.

        Raises:
            SpecificationError: If a field has no meaning.
        """
        return read_specification(
            {
                "base": self.base,
                "task": self.task if isinstance(self.task, str) else dict(self.task),
                "heldout": [one if isinstance(one, str) else dict(one) for one in self.heldout],
                **self.recipe,
                "methods": [dict(method) for method in methods],
                "seeds": [self.seed],
                "k": self.k,
                "epsilon": self.epsilon,
                **fields,
            }
        )

    def sweep(self, rates: Mapping[str, Sequence[float]]) -> Specification:
        """The short trainings at these rates, by method."""
        own: dict[str, dict[str, Any]] = {"lora": {"rank": [self.rank], "alpha": ["2r"]}, "full": {}}
        methods = [{"method": name, **own[name], "learning_rate": list(given)} for name, given in rates.items()]
        return self.specification(
            methods,
            title="Pilot",
            steps=self.steps,
            keep="all",
            controls=False,
            trajectory=0,
            test_examples=TEST_EXAMPLES,
        )

    def gradient(self) -> Specification:
        """One step of plain gradient descent: of the whole model where it fits, else through the factors."""
        methods = [{"method": "full"}] if self.full else [{"method": "lora", "rank": [self.rank], "alpha": ["2r"]}]
        return self.specification(
            [{**method, "learning_rate": [GRADIENT_RATE]} for method in methods],
            title="Gradient",
            heldout=[],
            steps=1,
            schedule="constant",
            warmup=0.0,
            optimiser="sgd",
            gradient_accumulation=GRADIENT_BATCHES,
            keep="all",
            controls=False,
            trajectory=0,
            test_examples=TEST_EXAMPLES,
        )


@dataclass(frozen=True, eq=False)
class Pilot:
    """What was trained.

    Attributes:
        settings: As they were resolved: rank and full are settled.
        built: The base without weights.
        trained: The short trainings.
        gradient: The run of the gradient step; None where it failed.
        reason: Why it failed.
    """

    settings: PilotSettings
    built: Bare
    trained: Bracketed
    gradient: Run | None
    reason: str = ""


def checked(asked: PilotSettings) -> tuple[PilotSettings, Bare]:
    """The settings with rank and full settled, once every input has been opened and found to fit.

    Raises:
        SpecificationError: Naming everything that would fail.
        SpectraError: If one thing would.
    """
    methods = {"lora": grid(FIRST["lora"]), **({} if asked.full is False else {"full": grid(FIRST["full"])})}
    specification = asked.sweep(methods)
    preflight(specification, planned(specification))
    task = load_task(specification.task or "")
    built = bare(asked.base, task.kind, task.outputs)
    _require_finite(asked.base)
    modules = dict(built.model.named_modules())
    smallest = min(min(modules[name].weight.shape) for name in linear_modules(built.model))
    need, free = BYTES_PER_NUMBER * built.parameters, free_bytes()
    fits = free is None or need <= SPARE * free
    if asked.full and not fits:
        raise SpecificationError(
            f"Full fine-tuning of '{asked.base}' needs about {need / 1e9:.2g} GB, and {(free or 0) / 1e9:.2g} GB are "
            "free. Leave --full out."
        )
    return replace(asked, rank=min(asked.rank, smallest), full=fits if asked.full is None else asked.full), built


def _require_finite(base: str) -> None:
    """Refuse weights that no training could start from.  Cost: one pass over the files."""
    broken = []
    for name, tensor in open_checkpoint(locate(resolve_model(base))).tensors.items():
        if tensor.dtype.is_floating_point and not bool(tensor.read().isfinite().all()):
            broken.append(name)
    if broken:
        raise CheckpointError(
            f"The weights of '{base}' hold NaN or infinity in {first_five(broken)}. Repair them, or use another base."
        )


def free_bytes() -> int | None:
    """Memory that a training may take: of the GPU, or of this machine; None where nobody says."""
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    try:
        told = Path("/proc/meminfo").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in told.splitlines() if line.startswith("MemAvailable")), None)


def run_pilot(
    asked: PilotSettings,
    folder: Path,
    *,
    executor: Executor = "local",
    on_event: OnEvent = lambda event: None,
    command: str = "",
) -> Pilot:
    """Train at the rates of the pilot until the best one has neighbours, then make the gradient step.

    Args:
        asked: What to train.
        folder: Takes the run folders `pilot` and `gradient`; a second call goes on there.
        executor: As `run_sweep` takes it.
        on_event: Called with every event of the sweeps.
        command: The command line, for the record.

    Raises:
        SpectraError: As `checked`, or if a run folder holds another sweep.
    """
    settings, built = checked(asked)
    mark(folder, "plan")  # not before: what is refused leaves no folder
    methods = ("lora", "full") if settings.full else ("lora",)
    trained = bracketed(
        settings.sweep,
        {method: grid(FIRST[method]) for method in methods},
        folder / "pilot",
        executor=executor,
        on_event=on_event,
        command=command,
    )
    gradient = run_sweep(
        settings.gradient(), folder / "gradient", executor=executor, on_event=on_event, command=command
    )
    failed = [str(error) for error in gradient.table("trials")["error"] if error]
    return Pilot(settings, built, trained, None if failed else gradient, failed[0] if failed else "")
