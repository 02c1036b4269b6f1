"""Updates that are orthogonal to the leading singular vectors of W0, on both sides."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spectra.errors import ModelError, first_five
from spectra.training.method import Method, lora_config
from spectra.training.prevention.factors import LoraLayer, lora_layers
from spectra.training.prevention.moment import Moment
from spectra.training.prevention.rule import UpdateRule, require_count
from spectra.training.settings import TrainingSettings

PROTECTED = 16
ROUNDINGS = 4.0  # of a factor's norm: what a projection leaves in the protected subspace


@dataclass(frozen=True, eq=False)
class Protected:
    """A layer with the leading singular vectors of its W0."""

    layer: LoraLayer
    U: Float[Tensor, "d_out k"]
    Vh: Float[Tensor, "k d_in"]


class OPLoRA(UpdateRule):
    """delta_W = (I - U_k U_k^T) scaling B A (I - V_k V_k^T):  U_k^T delta_W = 0 and delta_W V_k = 0 at every step.

    The k leading singular triplets of W0 are then singular triplets of W_tuned, exactly.

    Source: OPLoRA, arXiv:2510.13003.
        Difference: the projections are put into the factors after every step, and into the gradients before it, where
        the paper multiplies by them in every forward pass. The products B A are the same in exact arithmetic (an
        optimiser moves the paper's factors by the same steps, and what lies in the protected subspaces never shows),
        save that gradients are clipped before they are projected; what is saved is plain LoRA.
    """

    def __init__(self, protect: int = PROTECTED) -> None:
        """Say what is protected.

        Args:
            protect: k, the leading singular triplets of every W0 that an update leaves alone.

        Raises:
            SpectrumError: If it is no number of at least 1.
        """
        self.protect = require_count("protect", protect)
        self._protected: list[Protected] = []

    def begin(self, model: nn.Module) -> None:
        """Factorise every W0, once, and take the protected directions out of the untrained factors.

        Raises:
            ModelError: If no plain LoRA is trained, or a matrix has no direction besides the protected ones.
        """
        layers = lora_layers(model, type(self).__name__)
        sizes = {layer.name: min(layer.B.shape[0], layer.A.shape[1]) for layer in layers}
        if small := [f"{name} ({size})" for name, size in sizes.items() if size <= self.protect]:
            raise ModelError(
                f"{self.protect} directions are protected, and the smaller side of {first_five(small)} has no more. "
                f"Protect fewer than {min(sizes.values())}."
            )
        self._protected = [Protected(layer, *leading_pairs(layer.base_weight(), self.protect)) for layer in layers]
        self.keep(Moment())

    @torch.no_grad()
    def before_step(self) -> None:
        """Take the protected directions out of the gradients."""
        for one in self._protected:
            if one.layer.B.grad is not None:
                one.layer.B.grad.copy_(_without_left(one.layer.B.grad, one.U))
            if one.layer.A.grad is not None:
                one.layer.A.grad.copy_(_without_left(one.layer.A.grad.mH, one.Vh.mH).mH)

    @torch.no_grad()
    def keep(self, moment: Moment) -> None:
        """Take the protected directions out of the factors."""
        for one in self._protected:
            if moment.step == 0 or one.layer.B.requires_grad:
                one.layer.B.copy_(_without_left(one.layer.B, one.U))
            if moment.step == 0 or one.layer.A.requires_grad:
                one.layer.A.copy_(_without_left(one.layer.A.mH, one.Vh.mH).mH)


def leading_pairs(W: Float[Tensor, "d_out d_in"], k: int) -> tuple[Float[Tensor, "d_out k"], Float[Tensor, "k d_in"]]:
    """The k leading left and right singular vectors, orthonormal, in float32.

    From the eigenvectors of the smaller Gram matrix in float64: single precision would let neighbouring vectors of W0
    mix by the rounding over their gap.
    """
    exact = W.double()
    if W.shape[0] > W.shape[1]:
        U, Vh = leading_pairs(W.mH, k)
        return Vh.mH.contiguous(), U.mH.contiguous()
    U = torch.linalg.eigh(exact @ exact.mH).eigenvectors[:, -k:].flip(1)
    V = torch.linalg.qr(exact.mH @ U).Q
    return U.float(), V.mH.float().contiguous()


def _without_left(B: Tensor, U: Tensor) -> Tensor:
    """(I - U U^T) B; as it is, where it is that to rounding."""
    taken = B.to(U.dtype)
    inside = U.mH @ taken
    rounded = ROUNDINGS * torch.finfo(B.dtype).eps * torch.linalg.vector_norm(taken)
    return torch.where(torch.linalg.vector_norm(inside) > rounded, taken - U @ inside, taken).to(B.dtype)


def _rule(settings: TrainingSettings) -> OPLoRA:
    return OPLoRA(**METHOD.own(settings))


METHOD = Method(
    "oplora",
    "LoRA orthogonal to the leading singular vectors of W0 on both sides (arXiv:2510.13003).",
    lora_config(),
    title="OPLoRA",
    own_arguments=("protect",),
    rule=_rule,
)
