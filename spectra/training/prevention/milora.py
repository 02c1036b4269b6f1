"""LoRA that starts from the smallest singular triplets of W0, as PiSSA does from the largest."""

from typing import Any

import torch
from torch import nn

from spectra.linalg.svd import thin_svd
from spectra.training.method import Method, lora_config
from spectra.training.prevention.factors import LoraLayer, lora_layers

NAME = "milora"
# Of the mean singular value: what the factors of a vanishing one start from, for B = A = 0 would never learn.
FLOOR = 1e-3


@torch.no_grad()
def start_from_minor_triplets(model: Any) -> None:
    """B = U_m sqrt(S_m / scaling), A = sqrt(S_m / scaling) V_m^T of the r smallest triplets, base := W0 - scaling B A.

    Source: MiLoRA, Wang et al. 2024, arXiv:2406.09044, section 3.
        Difference: a singular value below a thousandth of the mean one starts as if it were that large; the base is
        W0 - scaling B A in any case, so that the model is the same before training.

    Raises:
        ModelError: If no plain LoRA is trained.
    """
    for layer in lora_layers(model, "MiLoRA"):
        if not layer.B.is_meta:  # a model without weights, which is only measured
            _start(layer)
    for config in model.peft_config.values():
        config.init_lora_weights = NAME  # what was taken out of W0 is then known as that of PiSSA is


def _start(layer: LoraLayer) -> None:
    W0 = layer.base_weight()
    svd, rank = thin_svd(W0), layer.A.shape[0]
    root = (svd.S[-rank:].clamp_min(FLOOR * float(svd.S.mean())) / layer.scaling).sqrt()
    layer.B.copy_(svd.U[:, -rank:] * root)
    layer.A.copy_(root[:, None] * svd.Vh[-rank:])
    base = W0 - layer.scaling * layer.B.float() @ layer.A.float()
    stored: nn.Parameter = layer.module.get_base_layer().weight
    stored.copy_(base.mH if getattr(layer.module, "fan_in_fan_out", False) else base)


METHOD = Method(
    NAME,
    "Starts from the smallest singular vectors of W0 (Wang et al. 2024).",
    lora_config(),
    prepare=start_from_minor_triplets,
    title="MiLoRA",
    changes_base=True,
)
