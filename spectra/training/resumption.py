"""What a checkpoint of an unfinished training holds of the model: every trained number as it stands, in full size.

peft's own files are made for what is finished: AdaLoRA's leave the pruned ranks out, while the optimiser goes on with
all of them, and lack the importance scores by which the next ranks are pruned.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from spectra.training.distributed import fill

FILE = "trained.safetensors"
SCORES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # AdaLoRA's running importance of every number, as peft names it
PATTERN = "rank_pattern"


def save_progress(model: nn.Module, trained: Collection[str], folder: Path) -> None:
    """Write the trained parameters, and what AdaLoRA remembers of them, into a checkpoint's folder."""
    parameters = {name: value for name, value in model.named_parameters() if name in trained}
    tensors = {f"parameter.{name}": value.detach().contiguous() for name, value in parameters.items()}
    metadata = {}
    if (allocator := _allocator(model)) is not None:
        tensors |= {
            f"{kind}.{name}": score.contiguous() for kind in SCORES for name, score in getattr(allocator, kind).items()
        }
        metadata[PATTERN] = json.dumps(allocator.peft_config.rank_pattern)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / FILE, metadata)


def load_progress(model: Any, trained: Collection[str], folder: Path) -> None:
    """Put back what `save_progress` wrote, into a model that was made anew by the same settings."""
    parameters = {name: value for name, value in model.named_parameters() if name in trained}
    scores: dict[str, dict[str, Tensor]] = {kind: {} for kind in SCORES}
    with safe_open(folder / FILE, framework="pt") as file:
        pattern = (file.metadata() or {}).get(PATTERN)
        for key in file.keys():  # noqa: SIM118 - no mapping
            kind, _, name = key.partition(".")
            tensor = file.get_tensor(key)
            if kind in scores:
                scores[kind][name] = tensor
                continue
            fill(parameters.pop(name), tensor)
    if parameters:
        raise KeyError(f"{folder / FILE} lacks {sorted(parameters)}")
    if (allocator := _allocator(model)) is not None and pattern is not None:
        allocator.peft_config.rank_pattern = json.loads(pattern)
        # The allocator knows parameters by their names inside peft's wrapper.
        devices = {name: value.device for name, value in model.base_model.model.named_parameters()}
        for kind, found in scores.items():
            setattr(allocator, kind, {name: score.to(devices[name]) for name, score in found.items()})


def _allocator(model: Any) -> Any:
    """AdaLoRA's allocator of ranks; None for any other model."""
    return getattr(getattr(model, "base_model", None), "rankallocator", None)
