"""Single-file LoRA of image and video models: kohya-ss and LyCORIS, diffusers, ComfyUI.

All of them are one table of tails: what stands before a tail is the module, what the tail says is the part. kohya
writes the module's dots as underscores. Where no alpha is stored, all of these programs take the scaling as 1.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from spectra.errors import AdapterError, first_five
from spectra.weights.dialects.foreign import ForeignAdapter, NamedChange, lora_change, number
from spectra.weights.dialects.products import product_change
from spectra.weights.formats.named import NamedTensors
from spectra.weights.formats.stored import StoredMatrix, StoredTensor
from spectra.weights.methods.changes import Change, DoraChange
from spectra.weights.methods.scaling import LoraPatterns

# "lora_unet_..._to_q.lora_down.weight", "unet....to_q.lora_A.weight", "....attn1.processor.to_q_lora.down.weight"
KEY = re.compile(
    r"^(?P<module>.+?)(\.|(?<=[a-z0-9])_(?=lora\.))"
    r"(?P<part>lora_(down|up|mid|A|B)(\.default)?|lora(_linear_layer)?\.(down|up)|lora_magnitude_vector(\.default)?"
    r"|alpha|dora_scale|diff|diff_b|hada_(w[12]_[ab]|t[12])|lokr_(w[12](_[ab])?|t[12]))(\.weight)?$"
)
DOWN = {"lora_A": "lora_down", "lora_B": "lora_up", "lora.down": "lora_down", "lora.up": "lora_up"}
PARTS = {
    **DOWN,
    "lora_linear_layer.down": "lora_down",
    "lora_linear_layer.up": "lora_up",
    "lora_magnitude_vector": "dora_scale",
}

FLATTENED = re.compile(r"^(?P<component>lora_unet|lora_transformer|lora_te\d?|lora_prior_unet|lycoris)_(?P<module>.+)$")
DOTTED = re.compile(
    r"^(?P<component>unet|transformer|text_encoder(_\d)?|(model\.)?diffusion_model|base_model\.model)\."
    r"(?P<module>.+)$"
)
COMPONENTS = {"diffusion_model": "diffusion model", "model.diffusion_model": "diffusion model"}

# Old names of diffusers: the attention processor kept the factors of the projections.
PROCESSOR = re.compile(r"\.processor\.(to_(?:q|k|v|out))$")

# Names inside "transformer." that only image and video models have.
DIT = re.compile(r"^(transformer\.)?(single_)?(transformer_blocks|layers|blocks|joint_blocks|double_blocks)\.\d+\.")
USUAL_FILE = "pytorch_lora_weights"
METADATA = "lora_adapter_metadata"


def recognises(path: Path, named: NamedTensors, config: Mapping[str, Any]) -> bool:
    """True when some names carry a tail of the table and none belongs to a language model's adapter."""
    names = list(named.tensors)
    keys = [key for name in names if (key := KEY.match(name))]
    if any(key["part"].startswith(("hada_", "lokr_", "lora_down", "lora.down", "lora_linear")) for key in keys):
        return True
    factors = [key["module"] for key in keys if key["part"].startswith(("lora_A", "lora_B"))]
    if not factors or any(".base_layer." in name for name in names):
        return False
    if path.stem.startswith(USUAL_FILE) or METADATA in named.metadata:
        return True
    prefixes = ("unet.", "text_encoder", "diffusion_model.", "model.diffusion_model.", "lora_unet_")
    return any(module.startswith(prefixes) for module in factors) or (
        all(module.startswith("transformer.") and DIT.match(module) for module in factors)
    )


def read(path: Path, named: NamedTensors, config: Mapping[str, Any]) -> ForeignAdapter:
    """The changes of a single-file LoRA.

    Raises:
        AdapterError: If parts are missing or unknown.
    """
    groups: dict[str, dict[str, StoredTensor]] = {}
    unknown = []
    for name, tensor in named.tensors.items():
        key = KEY.match(name)
        if key is None:
            unknown.append(f"'{name}'")
        else:
            part = key["part"].removesuffix(".default")
            groups.setdefault(key["module"], {})[PARTS.get(part, part)] = tensor
    groups = {module: parts for module, parts in groups.items() if parts.keys() - {"diff_b", "alpha"}}
    if unknown or not groups:
        raise AdapterError(
            f"'{path}' holds tensors of an adapter that spectra does not know: {first_five(unknown) or 'none at all'}. "
            "Merge it into its base and compare that."
        )
    patterns = _patterns(path, named.metadata)
    changes = tuple(_change(path, module, parts, patterns) for module, parts in groups.items())
    kinds = {part for parts in groups.values() for part in parts}
    method = next(
        (name for head, name in (("hada", "loha"), ("lokr", "lokr")) if any(kind.startswith(head) for kind in kinds)),
        "dora" if "dora_scale" in kinds else "lora",
    )
    nbytes = sum(tensor.nbytes for tensor in named.tensors.values())
    return ForeignAdapter(path, "single-file LoRA", changes, method=method, nbytes=nbytes)


def _change(
    path: Path, full: str, parts: Mapping[str, StoredTensor], patterns: Mapping[str, LoraPatterns]
) -> NamedChange:
    flattened = FLATTENED.match(full)
    found = flattened or DOTTED.match(full)
    component, module = (found["component"], found["module"]) if found else ("", full)
    module = PROCESSOR.sub(lambda hit: f".{hit[1]}.0" if hit[1] == "to_out" else f".{hit[1]}", module)
    alpha = number(parts["alpha"], path) if "alpha" in parts else None
    if alpha is None and component in patterns:
        settings = patterns[component].settings(module)
        rank = parts["lora_down"].shape[0] if "lora_down" in parts else settings.rank
        alpha = settings.scaling * rank
    shape: tuple[int, int]
    if "lora_down" in parts and "lora_up" in parts and "lora_mid" not in parts:
        A, B = StoredMatrix.of(parts["lora_down"]), StoredMatrix.of(parts["lora_up"])
        change: Change = lora_change(full, A, B, alpha, path=path)
        shape = B.shape[0], A.shape[1]
    else:
        product = product_change(_kind(path, full, parts), _own(parts), alpha, full, path)
        change, shape = product, product.shape
    if "dora_scale" in parts:
        magnitude = parts["dora_scale"]
        # One number per row (diffusers, LyCORIS with wd_on_out), or one per column (LyCORIS before).
        by_column = len(magnitude.shape) > 1 and magnitude.shape[0] == 1
        expected = shape[1] if by_column else shape[0]
        if math.prod(magnitude.shape) != expected:
            raise AdapterError(
                f"'{full}' in '{path}' has {math.prod(magnitude.shape)} DoRA magnitudes and needs {expected}. "
                "Save the adapter again."
            )
        change = DoraChange(change, StoredMatrix.of(magnitude), by_column=by_column)
    return NamedChange(module, change, shape, COMPONENTS.get(component, component), flattened is not None)


def _own(parts: Mapping[str, StoredTensor]) -> Mapping[str, StoredTensor]:
    return {name: part for name, part in parts.items() if name not in ("alpha", "dora_scale", "diff_b")}


def _kind(path: Path, module: str, parts: Mapping[str, StoredTensor]) -> Any:
    if any(part.startswith("hada_") for part in parts):
        return "hadamard"
    if any(part.startswith("lokr_") for part in parts):
        return "kronecker"
    if "lora_mid" in parts:
        return "core"
    if "diff" in parts:
        return "whole"
    raise AdapterError(
        f"The factors of '{module}' in '{path}' are incomplete: there is only {first_five(sorted(parts))}. "
        "Save the adapter again."
    )


def _patterns(path: Path, metadata: Mapping[str, str]) -> Mapping[str, LoraPatterns]:
    """Rank and alpha per component, from what diffusers writes into the header."""
    text = metadata.get(METADATA)
    if text is None:
        return {}
    try:
        told = json.loads(text)
        by_component: dict[str, dict[str, Any]] = {}
        for key, value in told.items():
            component, _, field = key.partition(".")
            by_component.setdefault(component, {})[field] = value
        return {
            component: LoraPatterns.of(fields) for component, fields in by_component.items() if "lora_alpha" in fields
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AdapterError(
            f"The metadata of '{path}' ({METADATA}) cannot be read ({error}). Save the adapter again."
        ) from error
