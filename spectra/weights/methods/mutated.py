"""Adapters whose initialisation changed the base: what they did relative to the *original* W0.

PiSSA, MiLoRA, OLoRA, CorDA, LoRA-GA and LoftQ take something out of W0 before training, so that at the first step
base + scaling * B @ A is still W0. Taken on the original W0, scaling * B @ A is therefore not the update.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.linalg.operators import LowRankUpdate
from spectra.linalg.svd import thin_svd
from spectra.weights.formats.stored import StoredMatrix
from spectra.weights.methods.changes import Change, Device, added
from spectra.weights.methods.scaling import LoraSettings

Recomputable = Literal["pissa", "olora"]
MUTATING = ("pissa", "milora", "olora", "corda", "lora_ga", "loftq")


def mutating_init(config: Mapping[str, Any]) -> str | None:
    """The initialisation of a LoRA configuration if it changed the base, such as "pissa_niter_4"."""
    init = config.get("init_lora_weights")
    return init.lower() if isinstance(init, str) and init.lower().startswith(MUTATING) else None


class _Trained:
    """A change around trained factors, whose settings and number of parameters are its own."""

    inner: Change

    @property
    def lora(self) -> LoraSettings | None:
        """Rank, alpha and scaling of the trained factors."""
        return self.inner.lora

    @property
    def parameters(self) -> int:
        """Those of the trained factors."""
        return self.inner.parameters


@dataclass(frozen=True, eq=False)
class SubtractedInit(_Trained):
    """delta_W = scaling * (B @ A - B_init @ A_init), the initial factors recomputed from the original W0.

    Both initialisations are functions of W0 alone. The signs of singular vectors and of a QR factorisation cancel
    in the product B_init @ A_init.

    Attributes:
        inner: The trained factors.
        init: "pissa": B_init = U_r sqrt(S_r / scaling), A_init = sqrt(S_r / scaling) Vh_r.
            "olora": B_init = Q_r, A_init = R_r of W0 = Q R.
        transposed: True for a Conv1D weight; peft factorises it as stored for OLoRA.

    Source: Meng et al. 2024, arXiv:2404.02948, equations 2-4; Büyükakyüz 2024, arXiv:2406.01775, Algorithm 1.
    """

    inner: Change
    init: Recomputable
    transposed: bool = False

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> LowRankUpdate:
        """Factors of twice the rank."""
        trained = self.inner.low_rank(W0, dtype, device)
        if trained is None:
            raise TypeError("the trained change has no factors")
        W = W0.load(torch.promote_types(dtype, torch.float32), device)
        B, A = self._initial(W, trained.rank, trained.scaling)
        return subtracted(trained, LowRankUpdate(B.to(dtype), A.to(dtype), trained.scaling))

    def _initial(self, W: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
        if self.init == "pissa":
            svd = thin_svd(W).leading(rank)
            root = (svd.S / scaling).sqrt()
            return svd.U * root, root[:, None] * svd.Vh
        if self.transposed:
            Q, R = torch.linalg.qr(W.mH)
            return R[:rank].mH, Q[:, :rank].mH
        Q, R = torch.linalg.qr(W)
        return Q[:, :rank], R[:rank]

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> Float[Tensor, "d_out d_in"]:
        """The original W0 plus the update."""
        return added(W0.load(dtype, device), self.low_rank(W0, dtype, device))


@dataclass(frozen=True, eq=False)
class SubtractedAdapter(_Trained):
    """delta_W = scaling * (B @ A - B_init @ A_init), the initial factors read from the adapter saved before training.

    Attributes:
        inner: The trained factors.
        initial: The factors before training.
    """

    inner: Change
    initial: Change

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> LowRankUpdate:
        """Factors of the two ranks together."""
        trained, initial = self.inner.low_rank(W0, dtype, device), self.initial.low_rank(W0, dtype, device)
        if trained is None or initial is None:
            raise TypeError("an adapter without factors has no initial factors")
        return subtracted(trained, initial)

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> Float[Tensor, "d_out d_in"]:
        """The original W0 plus the update."""
        return added(W0.load(dtype, device), self.low_rank(W0, dtype, device))


@dataclass(frozen=True, eq=False)
class OnMutatedBase(_Trained):
    """W_tuned = mutated base + scaling * B @ A, compared with the original W0.

    Attributes:
        inner: The change relative to the mutated base.
        mutated: The same matrix of the mutated base.
    """

    inner: Change
    mutated: StoredMatrix

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> None:
        """The difference of two stored matrices has no known rank."""
        return

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> Float[Tensor, "d_out d_in"]:
        """The change applied to the mutated base."""
        return self.inner.tuned(self.mutated, dtype, device)


def subtracted(trained: LowRankUpdate, initial: LowRankUpdate) -> LowRankUpdate:
    """trained - initial as one product of the ranks together."""
    return trained.plus(replace(initial, scaling=-initial.scaling))
