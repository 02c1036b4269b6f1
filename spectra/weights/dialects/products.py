"""Updates that are products of other kinds than B @ A: Hadamard, Kronecker, with a core between, or stored whole."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from spectra.errors import AdapterError
from spectra.weights.formats.stored import StoredMatrix, StoredTensor
from spectra.weights.methods.changes import Device
from spectra.weights.methods.scaling import LoraSettings

Product = Literal["hadamard", "kronecker", "core", "whole"]


@dataclass(frozen=True, eq=False)
class ProductChange:
    """W_tuned = W0 + scaling * delta(parts), a dense update that the adapter's file alone determines.

    hadamard:   (w1_a @ w1_b) * (w2_a @ w2_b)                                (LoHa)
    kronecker:  w1 (x) w2, either of them itself a product where it is large  (LoKr)
    core:       up . mid . down, with a convolution's kernel in the middle    (LoCon)
    whole:      the update as stored

    Attributes:
        kind: Which product.
        parts: The stored parts, by the names of LyCORIS.
        settings: Rank, alpha and scaling; None for an update without a rank, whose scaling is 1.

    Source: Hyeon-Woo et al. 2022, arXiv:2108.06098, section 2.2 (LoHa, and its tensor form); Yeh et al. 2024,
        arXiv:2309.14859, section 3 (LoKr, LoCon).
    """

    kind: Product
    parts: Mapping[str, StoredTensor]
    settings: LoraSettings | None = None

    @property
    def lora(self) -> LoraSettings | None:
        """Rank, alpha and scaling."""
        return self.settings

    @property
    def parameters(self) -> int:
        """Numbers in the parts."""
        return sum(math.prod(part.shape) for part in self.parts.values())

    @property
    def shape(self) -> tuple[int, int]:
        """(d_out, d_in) of the update."""
        delta = self._delta({name: torch.empty(part.shape, device="meta") for name, part in self.parts.items()})
        return delta.shape[0], int(delta[0].numel())

    def low_rank(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> None:
        """The product is dense."""
        return

    def delta_W(self, dtype: torch.dtype, device: Device) -> Float[Tensor, "d_out d_in"]:
        """The update.

        Raises:
            CheckpointError: If a part holds NaN or infinity.
        """
        parts = {
            name: StoredMatrix.of(part).load(dtype, device).reshape(part.shape) for name, part in self.parts.items()
        }
        scaling = 1.0 if self.settings is None else self.settings.scaling
        return self._delta(parts).flatten(1).mul(scaling)

    def tuned(self, W0: StoredMatrix, dtype: torch.dtype, device: Device) -> Float[Tensor, "d_out d_in"]:
        """W0 plus the update."""
        return W0.load(dtype, device).add_(self.delta_W(dtype, device))

    def _delta(self, parts: Mapping[str, Tensor]) -> Tensor:
        if self.kind == "whole":
            return parts["diff"]
        if self.kind == "core":
            up, mid, down = parts["lora_up"].flatten(1), parts["lora_mid"], parts["lora_down"].flatten(1)
            return torch.einsum("or,rskl,si->oikl", up, mid, down)
        if self.kind == "hadamard":
            return _factor(parts, "hada_w1", "hada_t1") * _factor(parts, "hada_w2", "hada_t2")
        w1, w2 = _factor(parts, "lokr_w1", "lokr_t1"), _factor(parts, "lokr_w2", "lokr_t2")
        return torch.kron(w1.reshape(*w1.shape, *[1] * (w2.ndim - w1.ndim)), w2.contiguous())


def _factor(parts: Mapping[str, Tensor], name: str, core: str) -> Tensor:
    """One factor of a product: stored whole, as two matrices, or as two matrices around a core."""
    if name in parts:
        return parts[name]
    a, b = parts[f"{name}_a"], parts[f"{name}_b"]
    if core in parts:
        return torch.einsum("ijkl,jr,ip->prkl", parts[core], b, a)
    return a @ b.flatten(1) if b.ndim == 2 else torch.einsum("or,rikl->oikl", a.flatten(1), b)


def product_change(
    kind: Product, parts: Mapping[str, StoredTensor], alpha: float | None, module: str, path: object
) -> ProductChange:
    """A product of stored parts; where alpha is not stored, the scaling is 1.

    Raises:
        AdapterError: If a part is missing or the parts do not fit together.
    """
    change = ProductChange(kind, parts, None)
    try:
        rank = _rank(kind, parts)
        if rank is not None:
            change = ProductChange(kind, parts, LoraSettings(rank, float(rank) if alpha is None else alpha))
        _ = change.shape
    except (KeyError, RuntimeError, IndexError, ValueError) as error:
        raise AdapterError(
            f"The parts of '{module}' in '{path}' are incomplete or do not fit together ({', '.join(sorted(parts))}). "
            "Save the adapter again."
        ) from error
    return change


def _rank(kind: Product, parts: Mapping[str, StoredTensor]) -> int | None:
    """The rank that alpha is divided by; None where a product has none."""
    if kind == "whole":
        return None
    if kind == "core":
        return parts["lora_down"].shape[0]
    if kind == "hadamard":
        return parts["hada_w1_b"].shape[0]
    for name in ("lokr_w1_b", "lokr_w2_b"):
        if name in parts:
            return parts[name].shape[0]
    return None
