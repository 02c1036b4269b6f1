"""A training method with a rule of its own: LoRA whose B is scaled down to a largest norm after every step."""

import torch

from spectra.training.method import Method, lora_config
from spectra.training.prevention.factors import lora_layers
from spectra.training.prevention.rule import UpdateRule, require_number


class SmallB(UpdateRule):
    """||B||_F <= norm for every matrix."""

    def __init__(self, norm):
        self.norm = require_number("norm", norm, above=0)

    def begin(self, model):
        """Find the factors."""
        self.layers = lora_layers(model, "SmallB")

    @torch.no_grad()
    def keep(self, moment):
        """Scale down what is beyond the norm."""
        for layer in self.layers:
            layer.B.mul_(min(1.0, self.norm / max(float(layer.B.norm()), 1e-30)))


SMALL_B = Method(
    "small-b",
    "LoRA with a largest norm of B.",
    lora_config(),
    title="Small B",
    own_arguments=("norm",),
    rule=lambda settings: SmallB(settings.arguments.get("norm", 1.0)),
)
