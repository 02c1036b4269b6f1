"""The same Frobenius norm for the update of every matrix: whether the spectrum of W0 matters beyond size."""

import torch
from torch import nn

from spectra.training.method import Method, lora_config
from spectra.training.prevention.both_kinds import RuleOfBothKinds
from spectra.training.prevention.dense import DenseWeight, matrices, towards_start
from spectra.training.prevention.factors import LoraLayer, multiply, powers, rounding
from spectra.training.prevention.moment import Moment
from spectra.training.prevention.rule import require_number
from spectra.training.settings import TrainingSettings


class MaxNorm(RuleOfBothKinds):
    """||delta_W||_F <= norm  for every matrix, after every optimiser step: an update beyond it is scaled down to it.

    The control of `SpectralBudget`, which allows every matrix what its own spectrum allows. Of LoRA, delta_W is
    scaling * B @ A; of full fine-tuning, W - W0 of the linear layers in the blocks.

    Source: our own; the projection onto a ball of the Frobenius norm. Difference: max-norm regularisation (Srebro et
        al. 2005) bounds the rows of weights, here whole updates are bounded.
    """

    def __init__(self, norm: float | int) -> None:
        """Say how large an update may be.

        Args:
            norm: The Frobenius norm, positive.

        Raises:
            SpectrumError: If it is no such number.
        """
        super().__init__()
        self.norm = require_number("norm", norm, above=0)

    def dense_weights(self, model: nn.Module) -> list[DenseWeight]:
        """The linear layers in the blocks."""
        return matrices(model, type(self).__name__)

    def keep_layer(self, layer: LoraLayer, moment: Moment) -> None:
        """Scale down a product that is beyond the norm."""
        B, A = layer.B.double(), layer.A.double()
        G, H, scaling = B.mH @ B, A @ A.mH, abs(layer.scaling)
        norm = scaling * float((G * H).sum().clamp_min(0).sqrt())
        if norm > self.norm:
            slack = float(rounding(layer, scaling * (G.trace() * H.trace()).sqrt()))
            left, right = ((max(self.norm - slack, 0.0) / norm) ** power for power in powers(layer))
            identity = torch.eye(G.shape[0], dtype=G.dtype, device=G.device)
            multiply(layer, left * identity, right * identity)

    def keep_weight(self, weight: DenseWeight, moment: Moment) -> None:
        """Scale down a difference that is beyond the norm."""
        norm = float(torch.linalg.vector_norm(weight.parameter - weight.W0))
        if norm > self.norm:
            eps = float(torch.finfo(weight.W0.dtype).eps)
            slack = eps * (float(torch.linalg.vector_norm(weight.W0)) + norm)
            towards_start(weight, max(self.norm - slack, 0.0) / norm)


def _rule(settings: TrainingSettings) -> MaxNorm:
    return MaxNorm(settings.arguments.get("norm", 0))


METHOD = Method(
    "max-norm",
    "LoRA with one Frobenius norm for the update of every matrix: the control of spectral-budget.",
    lora_config(),
    title="Max-norm",
    own_arguments=("norm",),
    rule=_rule,
)
FULL = Method(
    "full-max-norm",
    "Full fine-tuning with one Frobenius norm for the update of every matrix.",
    None,
    has_rank=False,
    has_alpha=False,
    title="full max-norm",
    own_arguments=("norm",),
    rule=_rule,
)
