"""The factors of a LoRA adapter in training, and the weights that they are added to."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spectra.errors import ModelError, first_five
from spectra.weights.methods.mutated import mutating_init


@dataclass(frozen=True, eq=False)
class LoraLayer:
    """One layer of a model with the trained factors of its update  delta_W = scaling * B @ A.

    Attributes:
        name: Of the module.
        module: peft's layer.
        adapter: Name of the adapter that is trained.
    """

    name: str
    module: Any
    adapter: str

    @property
    def A(self) -> nn.Parameter:
        """Down-projection, rank x d_in, as it stands now."""
        parameter: nn.Parameter = self.module.lora_A[self.adapter].weight
        return parameter

    @property
    def B(self) -> nn.Parameter:
        """Up-projection, d_out x rank, as it stands now."""
        parameter: nn.Parameter = self.module.lora_B[self.adapter].weight
        return parameter

    @property
    def scaling(self) -> float:
        """The factor on B @ A."""
        return float(self.module.scaling[self.adapter])

    def base_weight(self) -> Float[Tensor, "d_out d_in"]:
        """W0 in float32: what the layer computes with, 4-bit and 8-bit weights dequantised."""
        from peft.utils.integrations import dequantize_module_weight

        weight = dequantize_module_weight(self.module.get_base_layer()).detach().float()
        if getattr(self.module, "fan_in_fan_out", False):
            weight = weight.mH
        return weight.reshape(self.B.shape[0], self.A.shape[1])


def has_adapter(model: Any) -> bool:
    """Whether a peft adapter is trained."""
    return hasattr(model, "peft_config")


def lora_layers(model: Any, rule: str) -> list[LoraLayer]:
    """The layers of the adapter that is trained.

    Args:
        model: A peft model.
        rule: What asks, for messages.

    Raises:
        ModelError: If it is no plain LoRA, whose update is scaling * B @ A, on linear layers alone.
    """
    if not has_adapter(model):
        raise ModelError(
            f"{rule} is kept by the factors of a LoRA adapter, and all weights of this model are trained: their "
            "updates have none. Train LoRA, or use MaxNorm or L2Init."
        )
    adapters = list(model.active_adapters)
    if len(adapters) != 1:
        raise ModelError(f"{rule} is kept by one adapter, and {len(adapters)} are active. Activate the one to train.")
    [adapter] = adapters
    config = model.peft_config[adapter]
    kind = getattr(config.peft_type, "value", str(config.peft_type))
    if kind != "LORA":
        raise ModelError(f"{rule} is kept by the factors of LoRA, and the adapter is {kind}. Train LoRA.")
    if init := mutating_init({"init_lora_weights": config.init_lora_weights}):
        raise ModelError(
            f"The initialisation {init} takes a part out of W0, so scaling * B @ A is not the update that {rule} "
            "speaks of. Leave init_lora_weights as it is."
        )
    found = list(_layers(model, adapter))
    if unfit := [name for name, layer, fit in found if not fit]:
        raise ModelError(
            f"{rule} speaks of delta_W = scaling * B @ A of linear layers, and that is not what is trained in "
            f"{first_five(unfit)}. Leave such layers, DoRA and other variants of LoRA out."
        )
    if not found:
        raise ModelError(f"The adapter '{adapter}' has no LoRA layer. Give it target_modules.")
    return [layer for _, layer, _ in found]


def _layers(model: nn.Module, adapter: str) -> Iterator[tuple[str, LoraLayer, bool]]:
    for name, module in model.named_modules():
        parts: Any = module
        if adapter in getattr(module, "lora_embedding_A", {}):
            yield name, LoraLayer(name, module, adapter), False
        if not isinstance(getattr(module, "lora_A", None), nn.ModuleDict) or adapter not in parts.lora_A:
            continue
        varied = adapter in getattr(module, "lora_variant", {}) or bool(getattr(module, "use_dora", {}).get(adapter))
        weight = parts.lora_A[adapter].weight
        wrapped = type(module).__name__ == "ParamWrapper"
        yield name, LoraLayer(name, module, adapter), weight.dim() == 2 and not varied and not wrapped


def powers(layer: LoraLayer) -> tuple[float, float]:
    """Which power of a change T of the product  B T A  goes into B, and which into A: the half of it, or all or none.

    Raises:
        ModelError: If neither factor is trained.
    """
    B, A = layer.B.requires_grad, layer.A.requires_grad
    if not (B or A):
        raise ModelError(f"Neither factor of '{layer.name}' is trained. Leave the module out, or train it.")
    return (0.5, 0.5) if B and A else (float(B), float(A))


@torch.no_grad()
def multiply(layer: LoraLayer, left: Float[Tensor, "rank rank"], right: Float[Tensor, "rank rank"]) -> None:
    """B -> B left,  A -> right A,  in float64; a factor that is not trained is left alone."""
    if layer.B.requires_grad:
        layer.B.copy_(layer.B.double() @ left)
    if layer.A.requires_grad:
        layer.A.copy_(right @ layer.A.double())


def rounding(layer: LoraLayer, sizes: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """What rounding B and A to their storage may add to ||scaling * B @ A||; `sizes` is scaling ||B||_F ||A||_F.

    Each factor is off by half a unit in the last place, so the product by one, to first order.
    """
    return 1.05 * float(torch.finfo(layer.B.dtype).eps) * sizes
