"""A rule that LoRA and full fine-tuning have in common: of the product of the factors, or of W - W0."""

import torch
from torch import nn

from spectra.training.prevention.dense import DenseWeight
from spectra.training.prevention.factors import LoraLayer, has_adapter, lora_layers
from spectra.training.prevention.moment import Moment
from spectra.training.prevention.rule import UpdateRule


class RuleOfBothKinds(UpdateRule):
    """Finds what is trained, and leaves to the subclass what is made of one LoRA layer and of one dense weight."""

    def __init__(self) -> None:
        """Nothing is found yet."""
        self._layers: list[LoraLayer] = []
        self._weights: list[DenseWeight] = []

    def begin(self, model: nn.Module) -> None:
        """Find the factors, or copy W0.

        Raises:
            ModelError: If an adapter other than plain LoRA is trained.
        """
        if has_adapter(model):
            self._layers = lora_layers(model, type(self).__name__)
        else:
            self._weights = self.dense_weights(model)

    @torch.no_grad()
    def keep(self, moment: Moment) -> None:
        """Bring every update under the rule."""
        for layer in self._layers:
            self.keep_layer(layer, moment)
        for weight in self._weights:
            self.keep_weight(weight, moment)

    def dense_weights(self, model: nn.Module) -> list[DenseWeight]:
        """The weights of full fine-tuning that it holds for."""
        raise NotImplementedError

    def keep_layer(self, layer: LoraLayer, moment: Moment) -> None:
        """Bring scaling * B @ A of one layer under the rule."""
        raise NotImplementedError

    def keep_weight(self, weight: DenseWeight, moment: Moment) -> None:
        """Bring W - W0 of one weight under the rule."""
        raise NotImplementedError
