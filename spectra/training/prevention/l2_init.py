"""Decay towards W0: the pull of weight decay, with the pre-trained weights in the place of zero."""

from torch import nn

from spectra.training.method import Method, lora_config
from spectra.training.prevention.both_kinds import RuleOfBothKinds
from spectra.training.prevention.dense import DenseWeight, everything_but_the_head, towards_start
from spectra.training.prevention.factors import LoraLayer
from spectra.training.prevention.moment import Moment
from spectra.training.prevention.rule import require_number
from spectra.training.settings import TrainingSettings


class L2Init(RuleOfBothKinds):
    """delta_W -> (1 - learning rate * decay) delta_W  after every optimiser step, decoupled as in AdamW.

    Of LoRA it is the product that decays: B is multiplied by the factor and A is left alone, so that
    scaling * B @ A shrinks by exactly as much as W - W0 of full fine-tuning does. AdamW's own weight decay of both
    factors shrinks it twice as fast, and A with it. Of full fine-tuning, all weights of the base decay towards their
    start, those of a new head do not.

    Source: Li et al. 2018, arXiv:1802.01483 (L2-SP). Difference: decoupled from the gradient, as Loshchilov & Hutter
        2019, arXiv:1711.05101, do with weight decay; a new head does not decay; for LoRA the product decays.
    """

    def __init__(self, decay: float | int) -> None:
        """Say how fast.

        Args:
            decay: As weight_decay of AdamW: what is left of an update after a step is 1 - learning rate * decay.

        Raises:
            SpectrumError: If it is no number of at least 0.
        """
        super().__init__()
        self.decay = require_number("decay", decay, least=0)

    def dense_weights(self, model: nn.Module) -> list[DenseWeight]:
        """All weights of the base."""
        return everything_but_the_head(model, type(self).__name__)

    def keep_layer(self, layer: LoraLayer, moment: Moment) -> None:
        """Let the product decay by the rate that B has."""
        if (kept := self._kept(layer.B, moment)) < 1:
            layer.B.mul_(kept)

    def keep_weight(self, weight: DenseWeight, moment: Moment) -> None:
        """Let W - W0 decay by the rate that W has."""
        if (kept := self._kept(weight.parameter, moment)) < 1:
            towards_start(weight, kept)

    def _kept(self, parameter: nn.Parameter, moment: Moment) -> float:
        return max(1 - moment.rate(parameter) * self.decay, 0.0)


def _rule(settings: TrainingSettings) -> L2Init:
    return L2Init(settings.arguments.get("decay", -1))


METHOD = Method(
    "l2-init",
    "LoRA whose product B A decays towards zero, that is W towards W0 (L2-SP, Li et al. 2018).",
    lora_config(),
    title="L2-init",
    own_arguments=("decay",),
    rule=_rule,
)
FULL = Method(
    "full-l2-init",
    "Full fine-tuning with a decay towards W0 (L2-SP, Li et al. 2018).",
    None,
    has_rank=False,
    has_alpha=False,
    title="full L2-init",
    own_arguments=("decay",),
    rule=_rule,
)
