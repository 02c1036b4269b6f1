"""The formats in which a LoRA is written: how each names modules, lays out factors and stores the scaling."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import AdapterError, first_five
from spectra.storage.atomic import write_json
from spectra.surgery.lora_folder import named_base
from spectra.weights.formats.safetensors_writer import TensorToWrite, write_safetensors
from spectra.weights.matching.names import DIFFUSION_BLOCKS, EMBEDDING, layer_of
from spectra.weights.methods.adapter import CONFIG, PREFIX, SAFETENSORS
from spectra.weights.methods.scaling import exact_patterns

KOHYA_FILE, MLX_FILE = "pytorch_lora_weights.safetensors", "adapters.safetensors"
# Where a prefix of kohya-ss is not asked for: the text encoders of image models begin with this.
TEXT_ENCODER = "text_model."


@dataclass(frozen=True, eq=False)
class NamedFactors:
    """The factors of one module:  delta_W = scaling * B @ A.

    Attributes:
        module: Its dotted name.
        A: (rank, d_in).
        B: (d_out, rank).
        scaling: Factor on the product, as it is to be stored.
        component: The part of a pipeline that it belongs to.
        written: Its name in the output.
        is_exact: False where a factor was multiplied into B.
        source_scaling: The scaling in the source.
        kernel: Size of a convolution's window, whose numbers stand in the rows of A.
    """

    module: str
    A: Float[Tensor, "rank d_in"]
    B: Float[Tensor, "d_out rank"]
    scaling: float
    component: str = ""
    written: str = ""
    is_exact: bool = True
    source_scaling: float = math.nan
    kernel: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """Columns of B."""
        return self.B.shape[1]

    def stored(self) -> tuple[Tensor, Tensor]:
        """A and B as layers have them: with the axes of a convolution's window."""
        rank, d_out = self.rank, self.B.shape[0]
        return self.A.reshape(rank, -1, *self.kernel), self.B.reshape(d_out, rank, *(1 for _ in self.kernel))


@dataclass(frozen=True)
class Writer:
    """One format.

    Attributes:
        prepared: Gives every module its name in the format, and the scaling that it can store.
        write: Writes the folder, with the base as it was named.
        warnings: What a reader has to know.
        dotted: Whether names keep their dots, so that those of the source must be known.
    """

    prepared: Callable[[Sequence[NamedFactors], str | None], list[NamedFactors]]
    write: Callable[[Path, Sequence[NamedFactors], str | None], None]
    warnings: Callable[[Sequence[NamedFactors]], list[str]] = lambda factors: []
    dotted: bool = True


def _tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    write_safetensors(path, [TensorToWrite.of(name, tensor.contiguous()) for name, tensor in sorted(tensors.items())])


def _for_peft(factors: Sequence[NamedFactors], component: str | None) -> list[NamedFactors]:
    return [replace(each, written=each.module, source_scaling=each.scaling) for each in factors]


def _write_peft(folder: Path, factors: Sequence[NamedFactors], base: str | None) -> None:
    tensors: dict[str, Tensor] = {}
    for each in factors:
        if EMBEDDING.search(each.module):
            tensors[f"{PREFIX}{each.module}.lora_embedding_A"] = each.B.mT
            tensors[f"{PREFIX}{each.module}.lora_embedding_B"] = each.A.mT
        else:
            A, B = each.stored()
            tensors[f"{PREFIX}{each.module}.lora_A.weight"] = A
            tensors[f"{PREFIX}{each.module}.lora_B.weight"] = B
    _tensors(folder / SAFETENSORS, tensors)
    alphas = {each.module: _number(each.scaling * each.rank) for each in factors}
    rank = Counter(each.rank for each in factors).most_common(1)[0][0]
    alpha = Counter(alphas.values()).most_common(1)[0][0]
    keys = exact_patterns([each.module for each in factors])
    config: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": named_base(base),
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": [each.module for each in factors],
        "rank_pattern": {keys[each.module]: each.rank for each in factors if each.rank != rank},
        "alpha_pattern": {keys[name]: value for name, value in alphas.items() if value != alpha},
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
        "use_rslora": False,
        "use_dora": False,
    }
    write_json(folder / CONFIG, config)


def _for_kohya(factors: Sequence[NamedFactors], component: str | None) -> list[NamedFactors]:
    return [
        replace(
            each, written=f"{_prefix(each, component)}_{each.module.replace('.', '_')}", source_scaling=each.scaling
        )
        for each in factors
    ]


def _prefix(each: NamedFactors, component: str | None) -> str:
    """The word before a module's name by which kohya-ss tells the parts of a pipeline apart.

    Raises:
        AdapterError: If nothing says which part it is.
    """
    if component is not None:
        return component if component.startswith("lora_") else f"lora_{component}"
    if each.component.startswith("lora_"):
        return each.component
    known = {
        "unet": "lora_unet",
        "transformer": "lora_transformer",
        "text_encoder": "lora_te",
        "text_encoder_2": "lora_te2",
    }
    if each.component in known:
        return known[each.component]
    if each.module.startswith(TEXT_ENCODER):
        return "lora_te"
    if DIFFUSION_BLOCKS.search(each.module):
        return "lora_unet"
    raise AdapterError(
        f"kohya-ss tells the parts of a pipeline apart by a prefix, and '{each.module}' does not say which it is. "
        "Name it with component, such as lora_unet or lora_te."
    )


def _write_kohya(folder: Path, factors: Sequence[NamedFactors], base: str | None) -> None:
    if twice := [name for name, times in Counter(each.written for each in factors).items() if times > 1]:
        raise AdapterError(
            f"Two modules are both '{twice[0]}' once their dots are underscores. Convert to peft instead."
        )
    tensors: dict[str, Tensor] = {}
    for each in factors:
        A, B = each.stored()
        tensors[f"{each.written}.lora_down.weight"] = A
        tensors[f"{each.written}.lora_up.weight"] = B
        # float64, so that alpha / rank is the scaling again.
        tensors[f"{each.written}.alpha"] = torch.tensor(each.scaling * each.rank, dtype=torch.float64)
    _tensors(folder / KOHYA_FILE, tensors)


def _for_mlx(factors: Sequence[NamedFactors], component: str | None) -> list[NamedFactors]:
    """mlx-lm knows one scale and one rank: other scales go into B, smaller ranks are filled up with zeros."""
    if windows := [each.module for each in factors if each.kernel]:
        raise AdapterError(f"mlx-lm has no LoRA of convolutions, and this adapter changes {first_five(windows)}.")
    scales = {each.scaling for each in factors}
    scale = scales.pop() if len(scales) == 1 else 1.0
    rank = max(each.rank for each in factors)
    settled = []
    for each in factors:
        times = each.scaling / scale
        B = each.B if times == 1 else (each.B.double() * times).to(torch.promote_types(each.B.dtype, torch.float32))
        fill = rank - each.rank
        settled.append(
            replace(
                each,
                A=torch.cat([each.A, each.A.new_zeros(fill, each.A.shape[1])]),
                B=torch.cat([B, B.new_zeros(B.shape[0], fill)], dim=1),
                scaling=scale,
                written=each.module,
                is_exact=times == 1,
                source_scaling=each.scaling,
            )
        )
    return settled


def _write_mlx(folder: Path, factors: Sequence[NamedFactors], base: str | None) -> None:
    tensors: dict[str, Tensor] = {}
    for each in factors:
        turned = EMBEDDING.search(each.module) is not None
        tensors[f"{each.module}.lora_a"] = each.B if turned else each.A.mT
        tensors[f"{each.module}.lora_b"] = each.A if turned else each.B.mT
    _tensors(folder / MLX_FILE, tensors)
    layered = [each.module for each in factors if layer_of(each.module) is not None]
    if outside := [each.module for each in factors if layer_of(each.module) is None]:
        raise AdapterError(
            f"mlx-lm gives factors to the layers alone, and this adapter changes {first_five(outside)}. "
            "Leave these modules out, or merge it into its base."
        )
    keys = sorted({re.sub(r"^.*?\.\d+\.", "", module) for module in layered})
    config = {
        "fine_tune_type": "lora",
        "model": named_base(base),
        "num_layers": -1,
        "lora_parameters": {
            "rank": factors[0].rank,
            "scale": factors[0].scaling,
            "dropout": 0.0,
            "keys": keys,
        },
    }
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _mlx_warnings(factors: Sequence[NamedFactors]) -> list[str]:
    filled = [each.module for each in factors if not bool(each.A[-1].any()) and not bool(each.B[:, -1].any())]
    if not filled:
        return []
    return [f"mlx-lm knows one rank: {len(filled)} modules of a smaller one are filled up with zeros."]


def _kohya_warnings(factors: Sequence[NamedFactors]) -> list[str]:
    alphas = {each.scaling * each.rank for each in factors if each.written.startswith("lora_unet")}
    if len(alphas) < 2:
        return []
    return [
        f"The modules have {len(alphas)} different alphas. kohya-ss reads them; diffusers (0.36) passes over those of "
        "the attention layers of a U-Net and scales them by the commonest one."
    ]


def _number(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value


WRITERS = {
    "peft": Writer(_for_peft, _write_peft),
    "kohya": Writer(_for_kohya, _write_kohya, _kohya_warnings, dotted=False),
    "mlx": Writer(_for_mlx, _write_mlx, _mlx_warnings),
}
