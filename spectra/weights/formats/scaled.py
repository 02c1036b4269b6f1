"""Weights in 8 bits, floating or integer, with their scales beside them:  W = code * scale.

The scale is one number, one per row, one per column or one per block, and lies under a name that depends on who wrote
it; all of them are multiplied, "inv" or not. A weight in float8 is plain only where nothing says that it has a scale.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spectra.errors import CheckpointError, first_five
from spectra.weights.formats.decoded import DecodedTensor
from spectra.weights.formats.stored import StoredTensor

FLOAT8 = {torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz}

# What stands for the scale of "X.weight": ModelOpt and compressed-tensors, DeepSeek and transformers, ComfyUI, Mistral.
OF_WEIGHT = ("weight_scale", "weight_scale_inv", "scale_weight", "qscale_weight", "scale_inv", "scale")
OF_PARAMETER = ("_scale_inv", "_scale")

# Scales of activations: they belong to no weight.
ACTIVATIONS = {
    *("input_scale", "scale_input", "activation_scale", "input_scale_ub", "output_scale", "qscale_act"),
    *("k_scale", "v_scale", "q_scale", "prob_output_scale"),
}
MARKER = "scaled_fp8"

# Methods whose float8 weights always have scales.
SCALING_METHODS = {"fp8", "fbgemm_fp8", "compressed-tensors", "modelopt"}

# The block size of every published checkpoint with blocks, for files whose configuration is lost.
USUAL_BLOCK = 128


@dataclass(frozen=True, eq=False)
class ScaledTensor(DecodedTensor):
    """A weight in 8 bits with its scale.

    Attributes:
        scale: The scale; None for a plain cast.
        block: Rows and columns of a block, where the scale has one number per block.
    """

    scale: StoredTensor | None = None
    block: tuple[int, int] | None = None

    @property
    def scales(self) -> tuple[StoredTensor, ...]:
        """The scale."""
        return () if self.scale is None else (self.scale,)

    def read_rows(self, start: int, stop: int, expert: int | None = None) -> Tensor:
        """Some rows, of one expert where the first axis counts experts."""
        rows = self.codes.read_rows(start, stop, expert).float()
        if self.scale is None:
            return rows
        scale = self.scale.read()
        if scale.dtype is torch.float8_e8m0fnu or scale.dtype.is_floating_point:
            scale = scale.float()
        if expert is not None and scale.numel() > 1:
            scale = scale[expert]
        if scale.numel() == 1:
            return rows * scale.reshape(())
        if self.block is not None:
            n_rows, n_columns = self.block
            scale = scale[torch.arange(start, stop) // n_rows]
            return rows * scale.repeat_interleave(n_columns, dim=1)[:, : rows.shape[1]]
        if scale.shape[0] > 1 or scale.ndim == 1:  # one per row
            return rows * scale[start:stop].reshape(-1, *[1] * (rows.ndim - 1))
        return rows * scale  # one per column


def is_scaled(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> bool:
    """True when some weight is in float8, or is an integer with a scale."""
    return any(
        tensor.dtype in FLOAT8 or (tensor.dtype is torch.int8 and _scale_of(name, tensors) is not None)
        for name, tensor in tensors.items()
    )


def with_scales(tensors: Mapping[str, StoredTensor], config: Mapping[str, Any]) -> Mapping[str, StoredTensor]:
    """The tensors of a checkpoint with its 8-bit weights multiplied by their scales.

    Raises:
        CheckpointError: If a weight lacks its scale, or has one that does not fit it.
    """
    siblings: dict[str, list[str]] = {}
    for name in tensors:
        siblings.setdefault(name.rpartition(".")[0], []).append(name)
    decoded: dict[str, ScaledTensor] = {}
    used: set[str] = set()
    for name, tensor in tensors.items():
        if len(tensor.shape) < 2 or tensor.dtype not in (*FLOAT8, torch.int8):
            continue
        scale = _scale_of(name, tensors)
        if scale is None:
            if tensor.dtype in FLOAT8:
                _refuse_unknown_scale(tensor, siblings[name.rpartition(".")[0]])
                decoded[name] = ScaledTensor(tensor)
            continue
        decoded[name] = ScaledTensor(tensor, tensors[scale], _block(tensor, tensors[scale], config))
        used.add(scale)
    lacking = [f"'{name}'" for name, tensor in decoded.items() if tensor.scale is None]
    if lacking and (used or MARKER in tensors or _method(config) in SCALING_METHODS):
        raise CheckpointError(
            f"Weights in 8 bits lack their scales: {first_five(lacking)} in '{decoded[lacking[0][1:-1]].path}'. "
            "Restore the tensors that hold the scales, or give the checkpoint that it was quantised from."
        )
    auxiliary = {name for name in tensors if name.rpartition(".")[2] in ACTIVATIONS} | used | {MARKER}
    return {name: decoded.get(name, tensor) for name, tensor in tensors.items() if name not in auxiliary}


def _scale_of(name: str, tensors: Mapping[str, StoredTensor]) -> str | None:
    """The name of a weight's scale, or None."""
    if name.endswith(".weight"):
        stem = name.removesuffix("weight")
        candidates = [f"{stem}{tail}" for tail in OF_WEIGHT]
    else:
        candidates = [f"{name}{tail}" for tail in OF_PARAMETER]
    return next((candidate for candidate in candidates if candidate in tensors), None)


def _refuse_unknown_scale(tensor: StoredTensor, siblings: list[str]) -> None:
    stem = tensor.name.removesuffix("weight")
    tails = [name.removeprefix(stem).lstrip(".") for name in siblings if name != tensor.name]
    unknown = [tail for tail in tails if "scale" in tail and tail not in ACTIVATIONS]
    if unknown and tensor.name.endswith("weight"):
        raise CheckpointError(
            f"'{tensor.name}' in '{tensor.path}' is in 8 bits, and spectra does not know what '{unknown[0]}' beside it "
            "does. Give the checkpoint that it was quantised from."
        )


def _method(config: Mapping[str, Any]) -> str:
    settings = config.get("quantization_config")
    return str(settings.get("quant_method", "")).lower() if isinstance(settings, Mapping) else ""


def _block(tensor: StoredTensor, scale: StoredTensor, config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Rows and columns of a block; None for one scale per tensor, row or column.

    Raises:
        CheckpointError: If the scale does not fit the weight.
    """
    shape, held = tensor.shape, scale.shape
    if torch.Size(held).numel() == 1:
        return None
    if len(shape) == 3:
        if held and held[0] == shape[0]:
            shape, held = shape[1:], held[1:]
        else:
            raise _misfit(tensor, scale)
    if torch.Size(held).numel() == 1 or (held[0] == shape[0] and torch.Size(held).numel() == shape[0]):
        return None
    if len(shape) == 2 and len(held) == 2:
        if held == (1, shape[1]):
            return None
        for block in _block_sizes(config, shape, held):
            if all(-(-length // size) == count for length, size, count in zip(shape, block, held, strict=True)):
                return block
    raise _misfit(tensor, scale)


def _block_sizes(
    config: Mapping[str, Any], shape: tuple[int, ...], held: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """Block sizes to try: what the configuration says; else the usual one, then an even division."""
    settings = config.get("quantization_config")
    settings = settings if isinstance(settings, Mapping) else {}
    groups = settings.get("config_groups")
    sizes = [settings.get("weight_block_size")]
    if isinstance(groups, Mapping):
        weights = [group.get("weights") for group in groups.values() if isinstance(group, Mapping)]
        sizes += [weight.get("block_structure") for weight in weights if isinstance(weight, Mapping)]
    told = [
        (size[0], size[1])
        for size in sizes
        if isinstance(size, list) and len(size) == 2 and all(type(length) is int and length > 0 for length in size)
    ]
    if told:
        return tuple(told)
    even = [-(-length // max(1, count)) for length, count in zip(shape, held, strict=True)]
    divides = all(length % max(1, count) == 0 for length, count in zip(shape, held, strict=True))
    return ((USUAL_BLOCK, USUAL_BLOCK), *([(even[0], even[1])] if divides else []))


def _misfit(tensor: StoredTensor, scale: StoredTensor) -> CheckpointError:
    return CheckpointError(
        f"The scale '{scale.name}' of shape {scale.shape} does not fit '{tensor.name}' of shape {tensor.shape} in "
        f"'{tensor.path}'. Save the checkpoint again, or give the one that it was quantised from."
    )
